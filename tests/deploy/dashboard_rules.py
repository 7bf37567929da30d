"""Writes a dashboard's queries as recording rules, so that promtool can check their syntax."""

import json
import sys
from collections.abc import Iterator

# What Grafana replaces.
VARIABLES = {"$__rate_interval": "5m", "$job": "portcullis", "$instance": ".*"}


def queries(value: object) -> Iterator[str]:
    """The value of each member `expr`, wherever it is."""
    if isinstance(value, dict):
        if "expr" in value:
            yield value["expr"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from queries(item)


with open(sys.argv[1]) as file:
    dashboard = json.load(file)
rules = []
for number, expression in enumerate(queries(dashboard)):
    for name, replacement in VARIABLES.items():
        expression = expression.replace(name, replacement)
    rules.append({"record": f"dashboard:query{number}", "expr": expression})
# JSON is YAML.
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
