#!/bin/sh
# Installs what some tests need and Cargo does not bring: the OpenID provider's npm packages, and nginx. Does nothing
# where they are there already.
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

install_nginx() (
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    command -v nginx >/dev/null && return 0
    command -v apt-get >/dev/null || { echo "no apt-get here: install nginx by other means" >&2; return 1; }
    root=
    if [ "$(id -u)" -ne 0 ]; then
        # Never asks for a password in the middle of a test run.
        sudo -n true 2>/dev/null || { echo "not root; run: sudo apt-get install --no-install-recommends nginx" >&2; return 1; }
        root=sudo
    fi
    # Tests start an nginx of their own. The package would start one on port 80: policy-rc.d is how Debian says no.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap '$root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
        $root chmod 755 "$policy"
    fi
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update &&
        $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 install \
            --no-install-recommends nginx >/dev/null || return 1
    # Nor at the next boot.
    if command -v systemctl >/dev/null; then $root systemctl disable -q nginx 2>/dev/null || true; fi
)

install_provider || give_up "the packages of tests/provider could not be installed"
install_nginx || give_up "nginx could not be installed"
