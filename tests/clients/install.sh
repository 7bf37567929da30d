#!/bin/sh
# Installs what tests/clients needs into FOLDER, and Java and Maven into the system where they are missing. Does nothing
# where everything is there already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)

"$here/../../scripts/debian.sh" javac default-jdk-headless
"$here/../../scripts/debian.sh" mvn maven

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
