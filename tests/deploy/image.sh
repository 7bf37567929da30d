#!/usr/bin/env bash
# Runs an executable as deploy/container/Dockerfile's image would: in a root with nothing but the executable, the
# authorities and a configuration, read-only, as user 65532, without privileges. No container engine is needed.
#
# usage: image.sh EXECUTABLE    as root, or where user namespaces are allowed
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: image.sh EXECUTABLE" >&2; exit 2; }

if [ "${IN_NAMESPACE:-}" != yes ]; then
    # New namespaces for mounts, processes and the network: ports are free, and what is started ends with this script.
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(--map-root-user)
    IN_NAMESPACE=yes exec unshare "${as_root[@]}" --mount --pid --fork --kill-child --net "$0" "$@"
fi

root=$(mktemp -d)
mount -t tmpfs -o mode=755 portcullis "$root"
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/portcullis" "$root/proc"
install -m 755 "$1" "$root/usr/bin/portcullis"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cat >"$root/etc/portcullis/gateway.toml" <<'TOML'
[server]
listen = "0.0.0.0:8080"

[issuers.main]
issuer = "https://login.example.com/realms/shop"
audiences = ["orders-api"]
jwks_file = "/etc/portcullis/jwks.json"

[upstreams.orders]
servers = ["http://127.0.0.1:9000"]

[[routes]]
path = "/orders/*"
scopes = ["orders:read"]
upstream = "orders"
TOML
# The key of RFC 7517, appendix A.1, without the parameters that the gateway does not read.
cat >"$root/etc/portcullis/jwks.json" <<'JSON'
{"keys": [{"kty": "RSA", "kid": "k1", "alg": "RS256", "e": "AQAB",
  "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}]}
JSON
mount -t proc proc "$root/proc"
mount -o remount,ro,bind "$root"
ip link set lo up 2>/dev/null || ifconfig lo up

# As the image's user: no groups, no capabilities, and none to be gained.
contained() {
    # exec: the process that is started in the background is then the gateway itself.
    exec setpriv --no-new-privs --inh-caps -all \
        env -i /usr/sbin/chroot --userspec 65532:65532 --groups= "$root" "$@"
}

(contained /usr/bin/portcullis --version)
(contained /usr/bin/portcullis check --config /etc/portcullis/gateway.toml)
(contained /usr/bin/portcullis run --config /etc/portcullis/gateway.toml >/dev/null 2>&1) &
gateway=$!
for _ in $(seq 100); do
    # The image's HEALTHCHECK.
    if (contained /usr/bin/portcullis health 2>/dev/null); then break; fi
    kill -0 "$gateway"
    sleep 0.1
done
for fact in 'Uid:	65532	65532	65532	65532' 'CapEff:	0000000000000000' 'NoNewPrivs:	1'; do
    grep -qx "$fact" "$root/proc/$gateway/status" || { echo "the process does not have $fact" >&2; exit 1; }
done
status=$(curl --noproxy '*' -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/orders/7)
[ "$status" = 401 ] || { echo "a request without a token is answered with $status" >&2; exit 1; }
kill -TERM "$gateway"
wait "$gateway"
echo "image: starts, is healthy, answers 401, drains"
