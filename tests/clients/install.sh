#!/bin/sh
# Installs what tests/clients needs into FOLDER, and what Debian packages bring into the system, where it is missing.
# Does nothing where everything is there already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)

for program in "javac default-jdk-headless" "mvn maven" "curl curl" "openssl openssl" "chromium chromium"; do
    # shellcheck disable=SC2086 # a program and its package
    "$here/../../scripts/debian.sh" $program
done
command -v go >/dev/null || "$here/../../scripts/debian.sh" go golang-go

if ! cmp -s "$here/pom.xml" "$folder/java/.installed-from"; then
    rm -rf "$folder/java"
    mvn -q -B -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DoutputDirectory="$folder/java"
    cp "$here/pom.xml" "$folder/java/.installed-from"
fi
if ! cmp -s "$here/requirements.txt" "$folder/python/.installed-from"; then
    python3 -m venv "$folder/python"
    "$folder/python/bin/pip" install -q -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$folder/python/.installed-from"
fi
if ! cmp -s "$here/package-lock.json" "$folder/node/.installed-from"; then
    mkdir -p "$folder/node"
    cp "$here/package.json" "$here/package-lock.json" "$folder/node"
    npm ci --prefix "$folder/node" --no-audit --no-fund --loglevel=error
    cp "$here/package-lock.json" "$folder/node/.installed-from"
fi
if [ ! -x "$folder/go/h2spec" ]; then
    GOBIN="$folder/go" go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
fi
go build -o "$folder/go/client" "$here/client.go"
