#!/bin/sh
# Writes the manual pages and the completion scripts of an executable: generate-assets.sh EXECUTABLE FOLDER
set -eu
[ $# -eq 2 ] || { echo "usage: generate-assets.sh EXECUTABLE FOLDER" >&2; exit 2; }
mkdir -p "$2/man" "$2/completions"
"$1" man >"$2/man/portcullis.1"
# The names below "Commands:"; longer descriptions continue on lines of their own.
"$1" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\{1,\}\) .*/\1/p' | while read -r command; do
    "$1" man "$command" >"$2/man/portcullis-$command.1"
done
"$1" completions bash >"$2/completions/portcullis"
"$1" completions zsh >"$2/completions/_portcullis"
"$1" completions fish >"$2/completions/portcullis.fish"
