#!/usr/bin/env bash
# Checks what is in deploy/ with the tools of its fields, and installs those that are missing.
#
# usage: scripts/test-deploy.sh [PART…]    without PART: all of them
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Alert rules and dashboard: promtool, of Debian's package prometheus.
part_monitoring() {
    scripts/debian.sh promtool prometheus
    promtool check rules deploy/prometheus/alerts.yaml
    promtool test rules deploy/prometheus/alerts_test.yaml
    # The dashboard's queries, with values for Grafana's variables, as rules that promtool can read.
    python3 - deploy/grafana/portcullis.json >"$work/dashboard.yaml" <<'PYTHON'
import json, sys

def queries(value):
    if isinstance(value, dict):
        if "expr" in value:
            yield value["expr"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from queries(item)

with open(sys.argv[1]) as file:
    found = list(queries(json.load(file)))
variables = {"$__rate_interval": "5m", "$job": "portcullis", "$instance": ".*"}
rules = []
for number, expression in enumerate(found):
    for name, value in variables.items():
        expression = expression.replace(name, value)
    rules.append({"record": f"dashboard:query{number}", "expr": expression})
# JSON is YAML.
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
PYTHON
    promtool check rules "$work/dashboard.yaml"
}

all=(monitoring)
[ $# -gt 0 ] || set -- "${all[@]}"
for part; do
    echo "== $part"
    "part_$part"
done
