#!/usr/bin/env bash
# Checks what is in deploy/ with the tools of its fields, and installs those that are missing: from Debian, PyPI, Maven
# Central and the Go module proxy.
#
# usage: scripts/test-deploy.sh [PART…]    without PART: all of them
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
# Everything that is installed without Debian's packages.
mkdir -p "$target/deploy-tools"
tools=$(cd "$target/deploy-tools" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A folder with the packages of a requirements file, unless it is there already.
python_tools() { # FOLDER, REQUIREMENTS
    cmp -s "$2" "$1/.installed-from" && return 0
    python3 -m venv "$1"
    "$1/bin/pip" install -q -r "$2"
    cp "$2" "$1/.installed-from"
}

executable() {
    ${CARGO:-cargo} build --locked
    gateway=$target/debug/portcullis
}

# Alert rules and dashboard: promtool, of Debian's package prometheus.
part_monitoring() {
    scripts/debian.sh promtool prometheus
    promtool check rules deploy/prometheus/alerts.yaml
    promtool test rules deploy/prometheus/alerts_test.yaml
    # The dashboard's queries, with values for Grafana's variables, as rules that promtool can read.
    python3 tests/deploy/dashboard_rules.py deploy/grafana/portcullis.json >"$work/dashboard.yaml"
    promtool check rules "$work/dashboard.yaml"
}

# Units: systemd's own checks, which need no running systemd.
part_systemd() {
    command -v systemd-analyze >/dev/null || scripts/debian.sh systemd-analyze systemd
    # 0 is best, 10 is worst; the threshold is in tenths.
    systemd-analyze security --offline=true --threshold=20 deploy/systemd/portcullis.service | tail -n 1
    # A root of its own, with the executables that the units name and the units that they are ordered by.
    mkdir -p "$work/root/usr/bin" "$work/root/bin" "$work/root/usr/lib/systemd/system"
    install -m 755 /bin/true "$work/root/usr/bin/portcullis"
    install -m 755 /bin/true "$work/root/bin/kill"
    cp /usr/lib/systemd/system/*.target deploy/systemd/*.service deploy/systemd/*.socket "$work/root/usr/lib/systemd/system/"
    systemd-analyze verify --man=no --root="$work/root" portcullis.service portcullis.socket
    systemd-sysusers --dry-run "$(pwd)/deploy/systemd/portcullis.sysusers"
}

# Dockerfiles: hadolint. The image: its build steps in a copy of what .dockerignore lets through, then the executable in
# a root like the image's. The same executable under strace, for the filter of system calls in the systemd unit.
part_container() {
    python_tools "$tools/python" tests/deploy/requirements.txt
    "$tools/python/bin/hadolint" deploy/container/Dockerfile deploy/compose/orders/Dockerfile
    mkdir "$work/context"
    sed -n 's/^!//p' .dockerignore | while read -r pattern; do
        # shellcheck disable=SC2086  # a pattern
        git ls-files -- $pattern
    done | xargs cp --parents -t "$work/context"
    CARGO_TARGET_DIR=$(cd "$target" && pwd) "$work/context/scripts/build-static.sh" "$work/portcullis"
    tests/deploy/image.sh "$work/portcullis"
    scripts/debian.sh strace strace
    tests/deploy/syscalls.sh "$work/portcullis"
}

# The Debian package of `make release`: lintian, and an installation that is thrown away.
part_package() {
    scripts/debian.sh lintian lintian
    local package
    package=$(ls target/dist/portcullis_*.deb) || { echo "run: make release" >&2; return 1; }
    # lintian warns that it runs as root.
    lintian --tag-display-limit 0 --fail-on error,warning "$package"
    tests/deploy/package.sh "$package"
}

# Docker Compose: its own loader, which knows the schema; and the services as processes, with a real Keycloak.
part_compose() {
    (cd tests/deploy/composecheck && go run . ../../../deploy/compose/compose.yaml)
    local version
    version=$(sed -n 's/^ *image: keycloak.*://p' deploy/compose/compose.yaml)
    if [ ! -d "$tools/compose/keycloak-$version" ]; then
        scripts/debian.sh mvn maven
        mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
            -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:zip" -DoutputDirectory="$work"
        mkdir -p "$tools/compose"
        python3 -m zipfile -e "$work/keycloak-quarkus-dist-$version.zip" "$tools/compose"
        chmod +x "$tools/compose/keycloak-$version/bin/kc.sh"
    fi
    python_tools "$tools/compose/python" deploy/compose/orders/requirements.txt
    executable
    python3 tests/deploy/compose.py "$gateway" "$tools/compose/keycloak-$version" "$tools/compose/python"
}

# Helm: its linter, the schemas of several versions of Kubernetes, and the rendered configuration. The plain manifests are
# those that the chart renders to.
part_kubernetes() {
    python_tools "$tools/python" tests/deploy/requirements.txt
    local helm file
    helm=$(scripts/go-tool.sh helm helm.sh/helm/v3/cmd/helm v3.19.4)
    "$helm" lint --quiet --strict deploy/helm/portcullis
    mkdir "$work/kubernetes"
    scripts/render-kubernetes.sh "$helm" "$work/kubernetes"
    for file in "$work"/kubernetes/*.yaml; do
        diff "$file" "deploy/kubernetes/$(basename "$file")" || { echo "run: make kubernetes" >&2; return 1; }
    done
    "$helm" template portcullis deploy/helm/portcullis --kube-version 1.34.0 --values tests/deploy/helm-all.yaml \
        >"$work/all.yaml" 2>"$work/messages" || { cat "$work/messages" >&2; return 1; }
    for version in 1.27.0 1.30.0 1.34.0 1.37.0; do
        "$tools/python/bin/kubernetes-validate" --quiet --strict --kubernetes-version "$version" \
            "$work"/kubernetes/*.yaml "$work/all.yaml"
    done
    # The Prometheus operator's types are not among them.
    (cd tests/deploy/operatorcheck && go run . "$work/all.yaml")
    "$helm" template portcullis deploy/helm/portcullis --kube-version 1.34.0 --values deploy/helm/tls.yaml \
        >"$work/tls.yaml" 2>"$work/messages" || { cat "$work/messages" >&2; return 1; }
    "$tools/python/bin/kubernetes-validate" --quiet --strict --kubernetes-version 1.34.0 "$work/tls.yaml"
    executable
    # The Secret's files, where `check` finds them.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
    "$tools/python/bin/python" tests/deploy/rendered_config.py "$work"/kubernetes/*.yaml >"$work/gateway.toml"
    "$tools/python/bin/python" tests/deploy/rendered_config.py "$work/tls.yaml" |
        sed "s#/run/portcullis/tls/#$work/#g" >"$work/tls.toml"
    "$gateway" check --config "$work/gateway.toml"
    "$gateway" check --config "$work/tls.toml"
}

all=(monitoring systemd container compose package kubernetes)
[ $# -gt 0 ] || set -- "${all[@]}"
for part; do
    echo "== $part"
    "part_$part"
done
