"""Checks the gateway between gRPC's own client and server (grpcio): streams in both directions, status, trailers,
deadlines, cancellation, refusals, and a server that dies.

usage: check.py GATEWAY

GATEWAY is the program. `make test-grpc` installs what is needed and runs this. Exit code 1 if a check fails.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

# The longest wait for anything; it only decides how late a broken check fails.
PATIENCE = 20

CONFIG = """
[server]
listen = "127.0.0.1:0"
drain_delay = "0s"
[admin]
listen = "off"
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
algorithms = ["ES256"]
jwks_file = "{keys}"
[upstreams.service]
servers = ["http://127.0.0.1:{port}"]
protocol = "http2"
[limits.one]
key = "ip"
rate = "1/h"
burst = 1
[[routes]]
path = "/check.Service/*"
access = "public"
upstream = "service"
[[routes]]
path = "/check.Token/*"
scopes = ["call"]
upstream = "service"
[[routes]]
path = "/check.Limited/*"
access = "public"
limits = ["one"]
upstream = "service"
[[routes]]
path = "/check.Small/*"
access = "public"
max_body_size = "1 KiB"
upstream = "service"
[[routes]]
path = "/check.Brief/*"
access = "public"
timeout = "500ms"
upstream = "service"
"""

failures = []


def check(name, found, expected):
    """Compares, and says so."""
    if found == expected:
        print(f"ok      {name}")
    else:
        print(f"FAILED  {name}\n        found    {found}\n        expected {expected}")
        failures.append(name)


# The service. Its messages are bytes, so that no code has to be generated.


def unary(request, context):
    """Echoes the message and, as metadata, what the gateway said of the caller."""
    seen = dict(context.invocation_metadata())
    subject = seen.get("x-identity-subject", "none")
    context.send_initial_metadata((("initial", "metadata"),))
    token = ("authorization-seen", str("authorization" in seen))
    context.set_trailing_metadata((("subject", subject), token, ("bytes-bin", b"\0\xff")))
    return request


def counted(request, _context):
    for number in range(int(request)):
        yield str(number).encode()


def joined(requests, _context):
    return b",".join(requests)


def echoed(requests, _context):
    yield from requests


def failing(_request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such room: caf\u00e9 100%")


def endless(request, context):
    """One message, then silence. Says on standard output when the call ends."""
    ended = threading.Event()
    context.add_callback(ended.set)
    yield request
    ended.wait(PATIENCE)
    print(f"ended {request.decode()} {ended.is_set()}", flush=True)


class Service(grpc.GenericRpcHandler):
    METHODS = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Counted": grpc.unary_stream_rpc_method_handler(counted),
        "Joined": grpc.stream_unary_rpc_method_handler(joined),
        "Echoed": grpc.stream_stream_rpc_method_handler(echoed),
        "Failing": grpc.unary_unary_rpc_method_handler(failing),
        "Endless": grpc.unary_stream_rpc_method_handler(endless),
    }

    def service(self, details):
        return self.METHODS.get(details.method.rpartition("/")[2])


def serve():
    threads = concurrent.futures.ThreadPoolExecutor(16)
    server = grpc.server(threads, handlers=[Service()], compression=grpc.Compression.Gzip)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


# The checks.


def outcome(call):
    """The status of a call, its message, and its trailing metadata."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details(), dict(error.trailing_metadata() or ())
    return grpc.StatusCode.OK, "", {}


def streams(channel):
    large = bytes(range(256)) * 8192
    response, call = channel.unary_unary("/check.Service/Unary").with_call(large, timeout=PATIENCE)
    check("a large message passes in both directions", response == large, True)
    check("    initial metadata", dict(call.initial_metadata()).get("initial"), "metadata")
    check("    binary trailing metadata", dict(call.trailing_metadata()).get("bytes-bin"), b"\0\xff")
    echo = channel.unary_unary("/check.Service/Unary")
    check("a compressed message", echo(b"a" * 9999, compression=grpc.Compression.Gzip, timeout=PATIENCE), b"a" * 9999)
    numbers = list(channel.unary_stream("/check.Service/Counted")(b"500", timeout=PATIENCE))
    check("a stream of the server", numbers, [str(number).encode() for number in range(500)])
    parts = iter([b"a", b"b", b"c"])
    check("a stream of the client", channel.stream_unary("/check.Service/Joined")(parts, timeout=PATIENCE), b"a,b,c")

    received, answers = concurrent.futures.Future(), []

    def questions():
        yield b"one"
        # Only sent once the answer to the first has arrived: nothing waits for the end of a stream.
        received.result(PATIENCE)
        yield b"two"

    for answer in channel.stream_stream("/check.Service/Echoed")(questions(), timeout=PATIENCE):
        answers.append(answer)
        if len(answers) == 1:
            received.set_result(None)
    check("messages pass in both directions while both streams are open", answers, [b"one", b"two"])
    code, details, _ = outcome(lambda: channel.unary_unary("/check.Service/Failing")(b"", timeout=PATIENCE))
    expected = (grpc.StatusCode.NOT_FOUND, "no such room: caf\u00e9 100%")
    check("the server's own status and message", (code, details), expected)
    code, *_ = outcome(lambda: channel.unary_unary("/check.Service/Nothing")(b"", timeout=PATIENCE))
    check("the server's own UNIMPLEMENTED", code, grpc.StatusCode.UNIMPLEMENTED)


def refusals(channel, token):
    def refused(name, method, expected, code, fields=(), request=b""):
        found, details, trailers = outcome(
            lambda: channel.unary_unary(method)(request, metadata=fields, timeout=PATIENCE)
        )
        check(name, (found, trailers.get("portcullis-code")), (expected, code))
        check("    with a message and a request id", bool(details) and len(trailers.get("x-request-id", "")), 32)
        return trailers

    def bearer(**claims):
        return (("authorization", f"Bearer {token(**claims)}"),)

    status = grpc.StatusCode
    trailers = refused("no token", "/check.Token/Unary", status.UNAUTHENTICATED, "credentials_missing")
    check("    with a challenge", trailers.get("www-authenticate", "").startswith("Bearer realm="), True)
    expired = bearer(exp=1000000000)
    refused("an expired token", "/check.Token/Unary", status.UNAUTHENTICATED, "token_invalid", expired)
    refused("no scope", "/check.Token/Unary", status.PERMISSION_DENIED, "scope_insufficient", bearer(scope="no"))
    refused("no route", "/check.Nothing/Unary", status.UNIMPLEMENTED, "route_not_found")
    large = b"a" * 2000
    refused("a large message", "/check.Small/Unary", status.RESOURCE_EXHAUSTED, "body_too_large", request=large)
    channel.unary_unary("/check.Limited/Unary")(b"", timeout=PATIENCE)
    trailers = refused("rate limited", "/check.Limited/Unary", status.RESOURCE_EXHAUSTED, "rate_limited")
    check("    with a delay", trailers.get("retry-after"), "3600")
    _, call = channel.unary_unary("/check.Token/Unary").with_call(b"", metadata=bearer(scope="call"), timeout=PATIENCE)
    seen = dict(call.trailing_metadata())
    check("an admitted call", (seen.get("subject"), seen.get("authorization-seen")), ("alice", "False"))


def ends(channel, service):
    def server_says():
        return service.stdout.readline().strip()

    call = channel.unary_stream("/check.Service/Endless")(b"cancelled", timeout=PATIENCE)
    next(call)
    call.cancel()
    check("a cancelled call is cancelled at the server", server_says(), "ended cancelled True")
    call = channel.unary_stream("/check.Service/Endless")(b"late", timeout=0.5)
    check("a deadline", outcome(lambda: list(call))[0], grpc.StatusCode.DEADLINE_EXCEEDED)
    check("    ends the call at the server", server_says(), "ended late True")
    call = channel.unary_stream("/check.Brief/Endless")(b"brief", timeout=PATIENCE)
    code, details, _ = outcome(lambda: list(call))
    check("the route's timeout", (code, "gateway" in details), (grpc.StatusCode.DEADLINE_EXCEEDED, True))
    check("    ends the call at the server", server_says(), "ended brief True")
    call = channel.unary_stream("/check.Service/Endless")(b"killed", timeout=PATIENCE)
    next(call)
    service.kill()
    code, details, _ = outcome(lambda: list(call))
    check("a server that dies during a call", (code, "broke off" in details), (grpc.StatusCode.UNAVAILABLE, True))
    code, _, trailers = outcome(lambda: channel.unary_unary("/check.Service/Unary")(b"", timeout=PATIENCE))
    found = (code, trailers.get("portcullis-code") in ("upstream_unreachable", "upstream_unavailable"))
    check("a server that is gone", found, (grpc.StatusCode.UNAVAILABLE, True))


def start_gateway(program, folder, **settings):
    """Starts a gateway; returns it and its port, which is in its log."""
    file = pathlib.Path(folder) / "gateway.toml"
    file.write_text(CONFIG.format(**settings))
    child = subprocess.Popen([program, "run", "-c", file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        if "address" in (event := json.loads(line)):
            # Nothing else reads the log, and a full pipe would stop the gateway's writer.
            threading.Thread(target=child.stderr.read, daemon=True).start()
            return child, int(event["address"].rpartition(":")[2])
    sys.exit("the gateway did not start")


def main():
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))

    def token(**claims):
        usual = {"iss": "https://idp.example", "aud": "api", "sub": "alice", "exp": int(time.time()) + 600}
        return jwt.encode(usual | claims, key, algorithm="ES256", headers={"kid": "1"})

    service = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    gateway = None
    try:
        port = int(service.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder) / "keys.json"
            keys.write_text(json.dumps({"keys": [public | {"kid": "1", "use": "sig", "alg": "ES256"}]}))
            gateway, data_port = start_gateway(pathlib.Path(sys.argv[1]).resolve(), folder, port=port, keys=keys)
            with grpc.insecure_channel(f"127.0.0.1:{data_port}") as channel:
                streams(channel)
                refusals(channel, token)
                ends(channel, service)
    finally:
        for child in (service, gateway):
            if child is not None:
                child.kill()
                child.wait()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
