#!/usr/bin/env bash
# Installs the Debian package over a copy of this system that is thrown away, looks at what it brought, and purges it.
#
# usage: package.sh PACKAGE.deb    as root, on Debian
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: package.sh PACKAGE.deb" >&2; exit 2; }

if [ "${IN_NAMESPACE:-}" != yes ]; then
    IN_NAMESPACE=yes exec unshare --mount --pid --fork --kill-child "$0" "$@"
fi

fail() {
    echo "package: $1" >&2
    exit 1
}

# Everything that is written goes to memory.
layers=$(mktemp -d)
mount -t tmpfs portcullis "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
mount -t overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" overlay "$layers/root"
mount -t proc proc "$layers/root/proc"
mount --bind /dev "$layers/root/dev"
cp "$1" "$layers/root/portcullis.deb"
in_root() { chroot "$layers/root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

in_root dpkg --install /portcullis.deb >/dev/null
in_root portcullis --version
in_root getent passwd portcullis
# Where systemd runs, the package's script does this.
in_root systemd-tmpfiles --create portcullis.conf
[ "$(in_root stat -c '%U:%G %a' /etc/portcullis)" = 'root:portcullis 750' ] || fail "/etc/portcullis is open to others"
in_root systemd-analyze verify --man=no /usr/lib/systemd/system/portcullis.service \
    /usr/lib/systemd/system/portcullis.socket
for file in /usr/share/man/man1/portcullis.1.gz /usr/share/man/man1/portcullis-run.1.gz \
    /usr/share/bash-completion/completions/portcullis /usr/share/doc/portcullis/examples/gateway.toml; do
    # Images for containers leave out what is below /usr/share/doc and man when a package is unpacked.
    in_root dpkg --listfiles portcullis | grep -qx "$file" || fail "$file is not in the package"
done
in_root dpkg-deb --fsys-tarfile /portcullis.deb |
    tar -xO ./usr/share/doc/portcullis/examples/gateway.toml >"$layers/root/etc/portcullis/gateway.toml"
in_root setpriv --reuid portcullis --regid portcullis --init-groups portcullis check -c /etc/portcullis/gateway.toml >/dev/null
in_root dpkg --purge portcullis >/dev/null
[ ! -e "$layers/root/usr/bin/portcullis" ] || fail "the executable is left after the purge"
echo "package: installs, is usable by its user, and can be purged"
