#!/usr/bin/env bash
# Compares the system calls that the gateway makes, from its start to its end, with those that the systemd unit allows.
# The unit answers others with an error, which would show only on a machine with systemd.
#
# usage: syscalls.sh EXECUTABLE
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -eq 1 ] || { echo "usage: syscalls.sh EXECUTABLE" >&2; exit 2; }

if [ "${IN_NAMESPACE:-}" != yes ]; then
    # A network of its own: all ports are free, and what is started ends with this script.
    IN_NAMESPACE=yes exec unshare --net --pid --fork --kill-child --mount-proc "$0" "$@"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ip link set lo up

cat >"$work/gateway.toml" <<'TOML'
[server]
listen = "127.0.0.1:8080"
drain_delay = "0s"

[issuers.main]
issuer = "https://login.example.com/realms/shop"
audiences = ["orders-api"]

[upstreams.orders]
servers = ["http://localhost:9000"]

[[routes]]
path = "/*"
access = "public"
upstream = "orders"
TOML
python3 -m http.server 9000 --bind 127.0.0.1 --directory "$work" >/dev/null 2>&1 &
strace -f -qq -e signal=none -o "$work/trace" "$1" run --config "$work/gateway.toml" >"$work/events" 2>&1 &
tracer=$!
fetch() { curl --noproxy '*' -sf -o /dev/null "$1"; }
for _ in $(seq 100); do
    if fetch http://127.0.0.1:8080/gateway.toml; then break; fi
    sleep 0.1
done
# A request, a scrape, a reload that is loaded, a drain.
fetch http://127.0.0.1:8080/gateway.toml
fetch http://127.0.0.1:9090/metrics
gateway=$(pgrep -P "$tracer")
kill -HUP "$gateway"
for _ in $(seq 100); do
    if curl --noproxy '*' -s http://127.0.0.1:9090/metrics | grep -q 'config_reloads_total{result="success"} 1'; then break; fi
    sleep 0.1
done
kill -TERM "$gateway"
wait "$tracer"

# The system calls of a set of systemd, with the sets that it includes.
members() { # SET
    systemd-analyze syscall-filter "$1" | tail -n +2 | sed 's/#.*//' | tr -s ' ' '\n' | while read -r name; do
        case $name in
        @*) members "$name" ;;
        ?*) echo "$name" ;;
        esac
    done
}
filter() { # PATTERN: of the unit's lines, whether they allow or deny
    sed -n "s/^SystemCallFilter=$1//p" deploy/systemd/portcullis.service | tr ' ' '\n' |
        while read -r set; do members "@${set#@}"; done | sort -u
}
filter @ >"$work/allowed"
filter '~@' >"$work/denied"
members @default | sort -u >"$work/default"
sed -E 's/^[0-9]+ +//' "$work/trace" | grep -oE '^[a-z_0-9]+\(' | tr -d '(' | sort -u >"$work/used"
comm -23 "$work/allowed" "$work/denied" | sort -u - "$work/default" | comm -23 "$work/used" - >"$work/missing"
if [ -s "$work/missing" ]; then
    echo "syscalls: the unit does not allow:" >&2
    cat "$work/missing" >&2
    exit 1
fi
# MemoryDenyWriteExecute=yes
if grep -E 'PROT_WRITE.*PROT_EXEC' "$work/trace"; then
    echo "syscalls: memory that is writable and executable" >&2
    exit 1
fi
echo "syscalls: the unit allows all $(wc -l <"$work/used")"
