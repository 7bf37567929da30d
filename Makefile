# What one can do here; `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help demo test test-tools lint fmt

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Not --release: the demonstration should be up soon, and optimising the whole program across crates takes minutes. The
# dev profile optimises the dependencies a little, and what it builds serves `make test` as well.
demo: ## Run issuer, upstream and gateway in one process; it prints commands to paste
	@scripts/doctor.sh build
	cargo run --locked -- demo

test: ## Run all tests, after installing what they need
	@scripts/doctor.sh
	@scripts/test-tools.sh
	cargo test --locked

test-tools: ## Install what some tests need: npm packages in tests/provider, nginx
	@scripts/doctor.sh
	@scripts/test-tools.sh

lint: ## Check formatting and lints as CI does
	@scripts/doctor.sh build
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

fmt: ## Format the code
	cargo fmt
