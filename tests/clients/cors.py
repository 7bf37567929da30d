"""What scripts in Chromium can do with responses that pass the gateway, over HTTP/1.1 and over HTTP/2 with TLS."""

import json
import pathlib
import subprocess

from harness import HERE, certificate, check
from http_clients import CONFIG, issuer

# Names of pages; each is an origin with the page server's port. The browser resolves all of them to this machine.
ALLOWED, OTHER, SUFFIX, PREFIX = "shop.example", "other.example", "shop.example.evil.test", "evilshop.example"


def browser(processes, program, installed, folder):
    """The part. `cors.mjs` runs the browser and prints what scripts saw."""
    folder = pathlib.Path(folder)
    keys, token = issuer(folder)
    _, cert, key = certificate(folder, ["api.example"])
    python = installed / "python/bin/python"
    echo = processes.service([python, HERE / "echo_service.py"])
    pages = processes.service(["node", HERE / "page_server.mjs"])
    origins = f'"http://{ALLOWED}:{pages}"'
    config = CONFIG.format(cert=cert, key=key, keys=keys, echo=echo, websocket=echo, origins=origins)
    ports, log = processes.gateway(program, folder, config, listeners=2)
    for scheme, port, version in [("https", ports[0], "h2"), ("http", ports[1], "http/1.1")]:
        before = log.stat().st_size
        command = ["node", HERE / "cors.mjs", installed / "node", str(pages), f"{scheme}://api.example:{port}", token]
        run = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if run.returncode != 0:
            check(f"the browser runs ({scheme})", run.stderr, "")
            continue
        seen = json.loads(run.stdout)
        check(f"{version}: the protocol", seen["protocol"], version)
        check("    an allowed origin reads the body, with credentials", seen["allowed"], {"status": 200, "method": "GET"})
        check("    and the body of an error", seen["refused"], {"status": 401, "code": "credentials_missing"})
        check("    and of a request with a preflight", seen["put"], {"status": 200, "method": "PUT"})
        check("    a method that is not allowed does not get through", seen["delete"], "TypeError")
        check("    a route without a policy stays silent", seen["silent"], "TypeError")
        for name in ["other", "suffix", "prefix", "null"]:
            check(f"    {name} origin reads nothing", seen[name], "TypeError")
        lines = [json.loads(line) for line in log.read_bytes()[before:].splitlines()]
        # The page has asked for this path three times, each time with Authorization.
        preflights = [line for line in lines if line["method"] == "OPTIONS" and line["path"] == "/orders/cached"]
        check("    the browser keeps the answer to a preflight", len(preflights), 1)
        written = [line for line in lines if line["method"] in ("PUT", "DELETE") and line["status"] == 200]
        check("    only the allowed origin has written", len(written), 1)
