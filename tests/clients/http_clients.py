"""curl, Go, Node and Python as clients: HTTP/1.1, HTTP/2 over TLS and HTTP/2 with prior knowledge.

Each program makes the same requests and prints what it got, a line of JSON each; see `requests_of`.
"""

import json
import os
import pathlib
import subprocess
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from harness import HERE, certificate, check

CONFIG = """
[server]
listen = "127.0.0.1:0"
plain_listen = ["127.0.0.1:0"]
[server.tls]
certificates = [{{ cert = "{cert}", key = "{key}" }}]
[admin]
listen = "off"
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
algorithms = ["ES256"]
jwks_file = "{keys}"
[upstreams.echo]
servers = ["http://127.0.0.1:{echo}"]
[upstreams.websocket]
servers = ["http://127.0.0.1:{websocket}"]
[cors.shop]
origins = [{origins}]
methods = ["GET", "PUT"]
credentials = true
[[routes]]
path = "/orders/*"
scopes = ["orders:read"]
upstream = "echo"
cors = "shop"
[[routes]]
path = "/socket"
scopes = ["orders:read"]
upstream = "websocket"
[[routes]]
path = "/silent"
upstream = "echo"
"""

BODY = 1024 * 1024


def issuer(folder):
    """The path of a key set, and a token that its key has signed, with the scope of the routes."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    keys = pathlib.Path(folder) / "keys.json"
    keys.write_text(json.dumps({"keys": [public | {"kid": "1", "use": "sig", "alg": "ES256"}]}))
    claims = {"iss": "https://idp.example", "aud": "api", "sub": "alice", "scope": "orders:read"}
    claims |= {"iat": int(time.time()), "exp": int(time.time()) + 3600}
    return keys, jwt.encode(claims, key, algorithm="ES256", headers={"kid": "1"})


def requests_of(base):
    """What each client sends, and the status that it gets."""
    return [
        ("GET", f"{base}/orders/1", True, 0, 200),
        ("GET", f"{base}/orders/1", False, 0, 401),
        ("POST", f"{base}/orders/1", True, BODY, 200),
        ("GET", f"{base}/nothing", True, 0, 404),
    ]


def judge(name, lines, version):
    """Compares the lines of a client with what it should have got."""
    expected = requests_of("")
    if len(lines) != len(expected):
        check(name, lines, f"{len(expected)} lines of JSON")
        return
    found = [(line["status"], line["version"], line.get("length", 0)) for line in map(json.loads, lines)]
    wanted = [(status, version, size if status == 200 else 0) for _, _, _, size, status in expected]
    check(name, found, wanted)


def program(name, command, version, base, token, **environment):
    """Runs a client that makes the requests by itself."""
    environment = os.environ | {"BASE": base, "TOKEN": token, "BODY": str(BODY)} | environment
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    judge(name, run.stdout.splitlines() or [run.stderr], version)


def curl(name, options, version, base, token):
    """curl, once for each request, because it reports one version and status for each run."""
    lines = []
    for method, url, has_token, size, _ in requests_of(base):
        command = ["curl", "-s", "-X", method, *options, "-w", "\n%{http_code} %{http_version}", url]
        command += ["-H", f"Authorization: Bearer {token}"] if has_token else []
        # Without `Expect`, curl sends the body at once; with it, it waits for the gateway's 100 (Continue).
        command += ["--data-binary", "@-"] if size else []
        run = subprocess.run(command, input="x" * size, capture_output=True, text=True, timeout=60)
        text, _, end = run.stdout.rpartition("\n")
        status, _, found = end.partition(" ")
        length = json.loads(text).get("length", 0) if text and status == "200" else 0
        lines.append(json.dumps({"status": int(status or 0), "version": found, "length": length}))
    judge(name, lines, version)


def clients(processes, gateway, installed, folder):
    """The part."""
    python = installed / "python/bin/python"
    keys, token = issuer(folder)
    ca, cert, key = certificate(folder, ["localhost", "127.0.0.1"])
    echo = processes.service([python, HERE / "echo_service.py"])
    websocket = processes.service([python, HERE / "websocket_service.py"])
    config = CONFIG.format(cert=cert, key=key, keys=keys, echo=echo, websocket=websocket, origins='"https://shop.example"')
    (secure, plain), _ = processes.gateway(gateway, folder, config, listeners=2)
    https, http = f"https://localhost:{secure}", f"http://127.0.0.1:{plain}"

    curl("curl, HTTP/1.1 over TLS 1.2", ["--cacert", ca, "--http1.1", "--tls-max", "1.2"], "1.1", https, token)
    curl("curl, HTTP/2 over TLS 1.3", ["--cacert", ca, "--http2", "--tlsv1.3"], "2", https, token)
    curl("curl, HTTP/1.1", ["--http1.1"], "1.1", http, token)
    curl("curl, HTTP/2 with prior knowledge", ["--http2-prior-knowledge"], "2", http, token)
    curl("curl, offers h2c", ["--http2"], "1.1", http, token)

    go = [installed / "go/client"]
    program("Go, HTTP/2 over TLS", go, "2", https, token, CA=str(ca), PROTOCOL="h2")
    program("Go, HTTP/1.1 over TLS", go, "1.1", https, token, CA=str(ca), PROTOCOL="http1")
    program("Go, HTTP/1.1", go, "1.1", http, token, PROTOCOL="http1")
    program("Go, HTTP/2 with prior knowledge", go, "2", http, token, PROTOCOL="h2c")

    node = ["node", HERE / "client.mjs"]
    program("Node, fetch over TLS", node, "1.1", https, token, NODE_EXTRA_CA_CERTS=str(ca), PROTOCOL="fetch")
    program("Node, fetch", node, "1.1", http, token, PROTOCOL="fetch")
    program("Node, http2 over TLS", node, "2", https, token, NODE_EXTRA_CA_CERTS=str(ca), PROTOCOL="h2")
    program("Node, http2 with prior knowledge", node, "2", http, token, PROTOCOL="h2c")

    for client, version in [("httpx", "1.1"), ("httpx2", "2"), ("aiohttp", "1.1")]:
        program(f"Python, {client} over TLS", [python, HERE / "client.py", client], version, https, token, CA=str(ca))
    program("Python, aiohttp", [python, HERE / "client.py", "aiohttp"], "1.1", http, token)
    for scheme, base in [("wss", https), ("ws", http)]:
        environment = os.environ | {"CA": str(ca), "TOKEN": token, "URL": f"{scheme}{base[base.index(':'):]}/socket"}
        run = subprocess.run([python, HERE / "websocket_client.py"], capture_output=True, text=True, timeout=60, env=environment)
        check(f"Python, websockets over {scheme}", run.stdout.splitlines() or run.stderr, ["without a token: 401", "hello", "1048576 bytes"])
    for name, base in [("over TLS", https), ("with prior knowledge", http)]:
        environment = os.environ | {"NODE_EXTRA_CA_CERTS": str(ca), "TOKEN": token, "URL": base, "PATHNAME": "/socket"}
        run = subprocess.run(["node", HERE / "websocket_http2.mjs"], capture_output=True, text=True, timeout=60, env=environment)
        expected = ["offered: true", "without a token: 401", "200", "hello", "1048576 bytes", "closed: 1000"]
        check(f"Node, a WebSocket over HTTP/2 {name}", run.stdout.splitlines() or run.stderr, expected)
