#!/bin/sh
# debian.sh PROGRAM PACKAGE: installs PACKAGE unless PROGRAM is there. Services of the package are not started, now or at boot.
set -eu
[ $# -eq 2 ] || { echo "usage: debian.sh PROGRAM PACKAGE" >&2; exit 2; }
PATH=$PATH:/usr/sbin:/usr/local/sbin
command -v "$1" >/dev/null && exit 0
command -v apt-get >/dev/null || { echo "no apt-get here: install $2 by other means" >&2; exit 1; }
root=
if [ "$(id -u)" -ne 0 ]; then
    # Never asks for a password in the middle of a test run.
    sudo -n true 2>/dev/null || { echo "not root; run: sudo apt-get install --no-install-recommends $2" >&2; exit 1; }
    root=sudo
fi
# Tests start processes of their own. The package would start one on the usual port: policy-rc.d is how Debian says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
fi
$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update
$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 install \
    --no-install-recommends "$2" >/dev/null
if command -v systemctl >/dev/null; then $root systemctl disable -q "$1" 2>/dev/null || true; fi
