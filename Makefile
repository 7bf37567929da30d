# What one can do here; `make` alone lists it.

.DEFAULT_GOAL := help
# Where Cargo builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
.PHONY: help demo test test-tools test-clients soak test-acme test-grpc test-deploy release kubernetes lint deny fuzz mutants fmt reference bench bench-instructions bench-compare

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Not --release: the demonstration should be up soon, and optimising the whole program across crates takes minutes. The
# dev profile optimises the dependencies a little, and what it builds serves `make test` as well.
demo: ## Run issuer, upstream and gateway in one process; it prints commands to paste
	@scripts/doctor.sh build
	cargo run --locked -- demo

test: ## Run all tests, after installing what they need
	@scripts/doctor.sh
	@scripts/test-tools.sh
	cargo test --locked

test-tools: ## Install what some tests need: npm packages in tests/provider, nginx, HAProxy
	@scripts/doctor.sh
	@scripts/test-tools.sh

# Not in CI: it downloads from several registries, and needs Java, Go and Chromium. PARTS chooses, such as
# `make test-clients PARTS="h2spec cors"`; `python3 tests/clients/check.py` lists the parts.
test-clients: ## Check real clients and services with a gateway in between; installs what it needs
	@scripts/doctor.sh build
	cargo build --locked
	tests/clients/install.sh $(TARGET)/clients
	$(TARGET)/clients/python/bin/python tests/clients/check.py $(TARGET)/debug/portcullis $(TARGET)/clients $(PARTS)

# PARTS chooses, such as `make test-deploy PARTS=monitoring`.
test-deploy: ## Check what is in deploy/ with the tools of its fields; installs what it needs
	scripts/test-deploy.sh $(PARTS)

# Not in CI: it downloads from the Go module proxy. PARTS chooses, such as `make test-acme PARTS=http-01`.
PEBBLE := github.com/letsencrypt/pebble/v2/cmd
test-acme: ## Check certificates by ACME with Pebble, Let's Encrypt's test server; installs it
	@scripts/doctor.sh build
	cargo build --locked
	python3 tests/acme/check.py $(TARGET)/debug/portcullis "$$(scripts/go-tool.sh pebble $(PEBBLE)/pebble v2.10.3)" \
		"$$(scripts/go-tool.sh pebble-challtestsrv $(PEBBLE)/pebble-challtestsrv v2.10.3)" $(PARTS)

# Not in CI: it downloads from PyPI.
test-grpc: ## Check gRPC's own client and server with a gateway in between; installs them
	@scripts/doctor.sh build
	cargo build --locked
	tests/grpc/install.sh $(TARGET)/grpc
	$(TARGET)/grpc/bin/python tests/grpc/check.py $(TARGET)/debug/portcullis

release: ## Build a release in target/dist: static executable, Debian package, SBOM, checksums
	@scripts/doctor.sh build
	scripts/debian.sh musl-gcc musl-tools
	scripts/release.sh

kubernetes: ## Render deploy/kubernetes from the Helm chart
	scripts/render-kubernetes.sh "$$(scripts/go-tool.sh helm helm.sh/helm/v3/cmd/helm v3.19.4)"

# Not in CI: it takes half an hour. SOAK has options, such as `make soak SOAK="--minutes 5"`.
soak: ## Serve mixed traffic for half an hour while keys, certificates, configuration and backends change
	@scripts/doctor.sh build
	cargo build --release --locked
	tests/clients/install.sh $(TARGET)/clients
	$(TARGET)/clients/python/bin/python tests/soak/soak.py $(TARGET)/release/portcullis $(SOAK)

lint: ## Check formatting and lints as CI does
	@scripts/doctor.sh build
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

deny: ## Check the dependencies' licences, bans, duplicates, sources and advisories
	@scripts/doctor.sh build
	@scripts/deny.sh

# Without a sanitizer, because the code has no `unsafe`. FUZZ has options of libFuzzer. What it finds out beyond the
# corpus in the repository stays in the build directory.
FUZZ_TARGETS := config path decision forwarding_fields response_head proxy_header
FUZZ := -max_total_time=60 -timeout=10
fuzz: ## Run each fuzz target for a minute, with a nightly compiler
	@scripts/doctor.sh build
	@cp Cargo.lock fuzz/Cargo.lock
	tool=$$(scripts/cargo-tool.sh cargo-fuzz 0.13.2) && export RUSTUP_TOOLCHAIN=nightly CARGO_TARGET_DIR=$(abspath $(TARGET)/fuzz) && \
	for target in $(FUZZ_TARGETS); do \
		mkdir -p $(TARGET)/fuzz/corpus/$$target fuzz/corpus/$$target && \
		$$tool run --sanitizer none $$target $(abspath $(TARGET))/fuzz/corpus/$$target fuzz/corpus/$$target -- $(FUZZ) || exit 1; \
	done

# A mutant takes about a minute, and there are two thousand; MUTANTS chooses, such as
# `make mutants MUTANTS="--shard 1/50"`, `MUTANTS="--in-diff my.diff"` or `MUTANTS="--re rate_limit/gcra"`.
# The build directory stays, so that dependencies are compiled once.
mutants: ## Find faults that no test notices (.cargo/mutants.toml); all of them take more than a day
	@scripts/doctor.sh build
	tool=$$(scripts/cargo-tool.sh cargo-mutants 27.1.0) && CARGO_TARGET_DIR=$(abspath $(TARGET)/mutants/build) $$tool mutants --output $(TARGET)/mutants $(MUTANTS)

bench: ## Time the gateway's parts and whole requests, with their allocations
	@scripts/doctor.sh build
	cargo bench --locked --bench parts
	cargo bench --locked --bench pipeline

bench-instructions: ## Count a request's instructions and compare with the kept figures
	@scripts/doctor.sh build
	@scripts/debian.sh valgrind valgrind || echo "bench-instructions: without valgrind there is nothing to count"
	cargo bench --locked --bench instructions

# Everything it needs goes into target/compare, but for nginx, HAProxy and wrk, which are Debian packages. COMPARE has options, such as
# `make bench-compare COMPARE="--rounds 3 --only one,new"`.
bench-compare: ## Measure beside nginx, HAProxy, Envoy, oauth2-proxy, Express and FastAPI; takes 20 minutes
	@scripts/doctor.sh build
	cargo build --release --locked
	benches/compare/install.sh $(TARGET)/compare
	$(TARGET)/compare/python/bin/python benches/compare $(TARGET)/release/portcullis --installed $(TARGET)/compare $(COMPARE)

fmt: ## Format the code
	cargo fmt

reference: ## Rewrite the key tables of docs/configuration.md from the definition of the keys
	UPDATE_REFERENCE=1 cargo test --locked --test it reference::the_tables
