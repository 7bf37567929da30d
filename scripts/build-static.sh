#!/bin/sh
# Builds the static executable of a release for this machine's architecture: build-static.sh FILE
#
# The same source, toolchain and C compiler give the same bytes, wherever the source and Cargo's
# folders are. Needs rustup's target for musl and the C compiler musl-gcc (Debian: musl-tools).
set -eu
[ $# -eq 1 ] || { echo "usage: build-static.sh FILE" >&2; exit 2; }
output=$1
cd "$(dirname "$0")/.."
source=$(pwd)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
build=${CARGO_TARGET_DIR:-$source/target}
target=$(uname -m)-unknown-linux-musl
# The name that variables for one target have in their own name.
upper=$(printf '%s' "$target" | tr 'a-z-' 'A-Z_')
lower=$(printf '%s' "$target" | tr '-' '_')

command -v musl-gcc >/dev/null || { echo "musl-gcc is missing; Debian: apt-get install musl-tools" >&2; exit 1; }
[ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target"

# No path of this machine gets into the executable: neither from Rust code nor from the C code of
# the crypto library and the allocator. The last mapping that fits wins, so the more specific
# folders come last.
rust_paths="--remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$source=/source --remap-path-prefix=$build=/build"
c_paths="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$source=/source -ffile-prefix-map=$build=/build"
export "CARGO_TARGET_${upper}_RUSTFLAGS=$rust_paths"
export "CC_$lower=musl-gcc" "CFLAGS_$lower=$c_paths"
# Incremental builds may split code differently.
export CARGO_INCREMENTAL=0

${CARGO:-cargo} build --release --locked --target "$target" --bin portcullis
install -D -m 755 "$build/$target/release/portcullis" "$output"
