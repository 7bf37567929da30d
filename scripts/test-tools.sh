#!/bin/sh
# Installs what some tests need and Cargo does not bring: the OpenID provider's npm packages, nginx and HAProxy. Does
# nothing where they are there already.
#
# What cannot be installed is only said, because the tests that need it leave themselves out; with CI=true it is an error.
set -eu
cd "$(dirname "$0")/.."

give_up() {
    echo "test-tools: $1" >&2
    [ "${CI:-}" != true ] || exit 1
}

install_provider() (
    cd tests/provider
    # npm leaves no trace of what exactly it installed from; a copy of the lock file is one.
    cmp -s package-lock.json node_modules/.installed-from && return 0
    npm ci --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/.installed-from
)

install_provider || give_up "the packages of tests/provider could not be installed"
scripts/debian.sh nginx nginx || give_up "nginx could not be installed"
scripts/debian.sh haproxy haproxy || give_up "HAProxy could not be installed"
