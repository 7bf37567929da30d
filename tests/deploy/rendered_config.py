"""Prints the gateway.toml of the ConfigMap among rendered manifests."""

import sys

import yaml

documents = [document for name in sys.argv[1:] for document in yaml.safe_load_all(open(name))]
(config,) = [document for document in documents if document["kind"] == "ConfigMap"]
print(config["data"]["gateway.toml"])
