#!/bin/sh
# Prints the path of a program written in Go, in a certain version, and installs it into target/tools where it is
# missing: scripts/go-tool.sh helm helm.sh/helm/v3/cmd/helm v3.19.4
set -eu
cd "$(dirname "$0")/.."
name=$1 package=$2 version=$3
folder=${CARGO_TARGET_DIR:-$(pwd)/target}/tools/$name-$version
if [ ! -x "$folder/$name" ]; then
    GOBIN=$folder GOTOOLCHAIN=local go install "$package@$version" >&2
fi
printf '%s\n' "$folder/$name"
