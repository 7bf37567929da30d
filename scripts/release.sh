#!/usr/bin/env bash
# Builds a release of the last commit in target/dist: a static executable in an archive, a Debian package, an SBOM,
# checksums. The same commit, toolchain and C compiler give the same bytes.
#
# usage: scripts/release.sh [--twice]    --twice: builds it again from scratch in another folder, and compares
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
architecture=$(uname -m)
target=$architecture-unknown-linux-musl
name=portcullis-$version-$architecture-linux
# All dates in what is built are the commit's.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C

# Only what is committed takes part, in a folder of its own.
build() { # SOURCE, FOLDER FOR BUILDING, FOLDER FOR THE RESULT
    local source=$1 dist=$3
    rm -rf "$source" "$dist"
    mkdir -p "$source" "$dist/$name"
    # --touch: Cargo would take a file that is older than its last build for unchanged.
    git archive HEAD | tar --touch -x -C "$source"
    (
        cd "$source"
        export CARGO_TARGET_DIR=$2
        scripts/build-static.sh "$dist/$name/portcullis"
        scripts/generate-assets.sh "$dist/$name/portcullis" target/generated
        cp -r target/generated/* LICENSE README.md CHANGELOG.md gateway.toml docs deploy "$dist/$name/"
        "$deb" deb --no-build --no-strip --locked --target "$target" --output "$dist/" >/dev/null
        "$cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --override-filename sbom.cdx
        # The SBOM names this package by its folder.
        sed "s#path+file://$source#path+file:///source#g" sbom.cdx.json >"$dist/portcullis-$version.cdx.json"
    )
    tar --sort=name --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw --mtime="@$SOURCE_DATE_EPOCH" \
        -C "$dist" -cf - "$name" | gzip -n9 >"$dist/$name.tar.gz"
    rm -r "${dist:?}/$name"
    (cd "$dist" && sha256sum -- * >SHA256SUMS)
}

deb=$(scripts/cargo-tool.sh cargo-deb 3.8.0)
cyclonedx=$(scripts/cargo-tool.sh cargo-cyclonedx 0.5.9)
root=$(pwd)/target
build "$root/source" "${CARGO_TARGET_DIR:-$root}" "$root/dist"
cat "$root/dist/SHA256SUMS"

if [ "${1:-}" = --twice ]; then
    second=$(mktemp -d)
    trap 'rm -rf "$second"' EXIT
    build "$second/source" "$second/build" "$second/dist"
    diff "$root/dist/SHA256SUMS" "$second/dist/SHA256SUMS"
    echo "release: the second build gave the same bytes"
fi
