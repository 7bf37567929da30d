#!/bin/sh
# Prints the path of a Cargo subcommand in a certain version, and installs it into target/tools where
# it is missing: scripts/cargo-tool.sh cargo-mutants 27.1.0
set -eu
cd "$(dirname "$0")/.."
name=$1 version=$2
tools=$(pwd)/target/tools
[ -z "${CARGO_TARGET_DIR:-}" ] || tools=$CARGO_TARGET_DIR/tools

is_wanted() { # PROGRAM
    case $("$1" --version 2>/dev/null || "$1" "${name#cargo-}" --version 2>/dev/null) in
    "$name $version") true ;;
    *) false ;;
    esac
}

# Unoptimised: the tools spend their time waiting for the compiler.
install() (
    trap 'rm -rf "$tools/build"' EXIT
    export CARGO_TARGET_DIR="$tools/build"
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off
    export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
    cargo install --quiet --locked --root "$tools" --version "=$version" "$name" >&2
)

tool=$name
if ! is_wanted "$tool"; then
    tool=$tools/bin/$name
    is_wanted "$tool" || install
fi
printf '%s\n' "$tool"
