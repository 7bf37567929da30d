#!/bin/sh
# Names at once all tools that are missing or too old, and how to get them on Debian.
#
# usage: scripts/doctor.sh [build]    build: only what compiling takes, not what the tests take
set -eu
# rust-toolchain.toml counts only inside the repository.
cd "$(dirname "$0")/.."

missing=0
complain() { # TOOL, WHAT IS WRONG, HOW TO GET IT
    [ "$missing" -eq 0 ] && echo "This machine lacks:" >&2
    missing=$((missing + 1))
    printf '  %-8s %s\n           %s\n' "$1" "$2" "$3" >&2
}

# The first number of the form 1.2 in a tool's version line is at least MAJOR.MINOR?
at_least() { # VERSION LINE, MAJOR, MINOR
    version=$(printf '%s\n' "$1" | sed -n 's/^[^0-9]*\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -n 1)
    [ -n "$version" ] || return 1
    [ "${version%%.*}" -gt "$2" ] || { [ "${version%%.*}" -eq "$2" ] && [ "${version#*.}" -ge "$3" ]; }
}

# Rust: Debian's own packages are older than 1.88 up to Debian 13, so rustup it is.
rustup="Debian 13: apt-get install rustup && rustup default stable; before that see https://rustup.rs"
# Where cargo is rustup's, this installs the pinned toolchain if it is missing, so the progress is not hidden.
if command -v cargo >/dev/null 2>&1 && line=$(RUST_BACKTRACE=0 cargo --version); then
    at_least "$line" 1 88 || complain cargo "is older than 1.88: $line" "rustup update stable"
    rust=$(rustc --version 2>/dev/null) || rust=none
    at_least "$rust" 1 88 || complain rustc "is missing or older than 1.88: $rust" "rustup update stable"
    cargo fmt --version >/dev/null 2>&1 || complain rustfmt "is missing" "rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || complain clippy "is missing" "rustup component add clippy"
elif command -v rustup >/dev/null 2>&1; then
    # rustup's cargo is there, but runs only the toolchain that is asked for.
    wanted=${RUSTUP_TOOLCHAIN:-$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)}
    complain cargo "does not run: toolchain $wanted is not installed; rust-toolchain.toml or RUSTUP_TOOLCHAIN asks for it" \
        "rustup toolchain install $wanted --component rustfmt,clippy; offline: export RUSTUP_TOOLCHAIN=stable"
else
    complain cargo "is missing (Rust 1.88 or newer, with rustfmt and clippy)" "$rustup"
fi
command -v "${CC:-cc}" >/dev/null 2>&1 || complain cc "is missing (a C compiler, for the crypto library)" "apt-get install build-essential"

if [ "${1:-}" != build ]; then
    if line=$(node --version 2>/dev/null); then
        at_least "$line" 20 0 || complain node "is older than 20: $line" "Debian 13: apt-get install nodejs; before that see https://nodejs.org"
    else
        complain node "is missing (20 or newer, for the OpenID provider that tests talk to)" \
            "Debian 13: apt-get install nodejs; before that see https://nodejs.org"
    fi
    command -v npm >/dev/null 2>&1 || complain npm "is missing" "apt-get install npm"
    python3 -c '' 2>/dev/null || complain python3 "is missing" "apt-get install python3"
fi

[ "$missing" -eq 0 ]
