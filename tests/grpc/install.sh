#!/bin/sh
# Installs what check.py needs into FOLDER, a virtual environment. Does nothing if everything is there already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 2; }
if ! cmp -s "$here/requirements.txt" "$1/.installed-from"; then
    python3 -m venv "$1"
    "$1/bin/pip" install -q -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$1/.installed-from"
fi
