"""Checks the gateway between real clients and real services: Java's HttpClient, Spring's ForwardedHeaderFilter, and
OpenTelemetry's SDK with its default sampler.

usage: check.py GATEWAY FOLDER

GATEWAY is the program, FOLDER what install.sh made. `make test-clients` does both. Exit code 1 if a check fails.
"""

import http.client
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent

# The example key of RFC 7517 A.1: no token is signed with it.
KEYS = """{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "alg": "ES256",
"x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"""

CONFIG = """
[server]
listen = "127.0.0.1:0"
drain_delay = "0s"
{server}
[admin]
listen = "off"
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
jwks_file = "{keys}"
[upstreams.spring]
servers = ["http://127.0.0.1:{spring}"]
[upstreams.tracing]
servers = ["http://127.0.0.1:{tracing}"]
[[routes]]
path = "/spring/*"
access = "public"
upstream = "spring"
[[routes]]
path = "/tracing/*"
access = "public"
upstream = "tracing"
[[routes]]
path = "/closed/*"
upstream = "spring"
"""

failures = []


def check(name, found, expected):
    """Compares, and says so."""
    if found == expected:
        print(f"ok      {name}")
    else:
        print(f"FAILED  {name}\n        found    {found}\n        expected {expected}")
        failures.append(name)


class Processes:
    """Child processes, killed at the end."""

    def __init__(self):
        self.children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()

    def start(self, command, **streams):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **streams)
        self.children.append(child)
        return child

    def service(self, command):
        """Starts a service; returns the port that it prints."""
        line = self.start(command, stdout=subprocess.PIPE).stdout.readline()
        if not line:
            sys.exit(f"{command} did not start")
        return int(line)

    def gateway(self, program, folder, **settings):
        """Starts a gateway; returns its port, which is in its log."""
        file = pathlib.Path(tempfile.mkstemp(suffix=".toml", dir=folder)[1])
        file.write_text(CONFIG.format(**settings))
        child = self.start([program, "run", "-c", file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in child.stderr:
            if "address" in (event := json.loads(line)):
                return int(event["address"].rpartition(":")[2])
        sys.exit("the gateway did not start")


def get(port, path, fields=()):
    """The status and the text of the answer to a GET with these fields, in this order."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
    for name, value in [("Host", "gateway.internal"), *fields]:
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def java_client(folder, port):
    """Java's HttpClient offers h2c with every request on a new connection; the answer is HTTP/1.1."""
    base = f"http://127.0.0.1:{port}"
    targets = ["GET {}/spring/a", "GET {}/spring/b", "POST {}/spring/c some text", "GET {}/closed/d"]
    requests = [target.format(base) for target in targets]
    run = subprocess.run(["java", HERE / "JavaClient.java", *requests], capture_output=True, text=True, timeout=120)
    lines = run.stdout.splitlines()
    if run.returncode != 0 or len(lines) != len(requests):
        check("the Java client runs", run.stderr, "")
        return
    for request, line in zip(requests, lines):
        method, url = request.split()[:2]
        status, version, text = line.split(" ", 2)
        expected = "401" if "/closed/" in url else "200"
        check(f"Java's HttpClient: {method} {url.removeprefix(base)}", (status, version), (expected, "HTTP_1_1"))
        offered = {"header=upgrade", "header=http2-settings", "header=connection"} & set(text.split())
        check("    the service does not learn of its offer", offered, set())
        if method == "POST":
            check("    the body arrives", "body=some text" in text, True)


def spring(port, fields):
    """What an application behind Spring's filter sees."""
    status, text = get(port, "/spring/a?b=1", fields)
    seen = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("header="))
    return status, seen.get("url"), seen.get("secure"), seen.get("remote")


def forwarded_headers(x_forwarded, forwarded, untrusted):
    """Spring prefers `Forwarded`, takes the first address in a list, and builds URLs from what it reads."""
    lies = [("Forwarded", "for=198.51.100.9;proto=https;host=evil.example")]
    x_lies = [
        ("X-Forwarded-For", "198.51.100.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Ssl", "on"),
    ]
    proxy = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "shop.example")]
    shop = (200, "https://shop.example/spring/a", "true", "203.0.113.9")
    plain = (200, "http://gateway.internal/spring/a", "false", "127.0.0.1")
    check("Spring behind a TLS proxy", spring(x_forwarded, proxy), shop)
    check("    the client sends Forwarded", spring(x_forwarded, lies + proxy), shop)
    check("    the client sends Forwarded, the proxy appends it", spring(x_forwarded, proxy + lies), shop)
    appended = [("X-Forwarded-For", "198.51.100.9, 203.0.113.9"), *proxy[1:]]
    check("    the client sends X-Forwarded-For", spring(x_forwarded, appended), shop)
    port = [*proxy, ("X-Forwarded-Port", "8443")]
    with_port = (200, "https://shop.example:8443/spring/a", *shop[2:])
    check("    the proxy reports a port", spring(x_forwarded, port), with_port)
    scheme = (200, "https://gateway.internal/spring/a", "true", "127.0.0.1")
    check("    the proxy reports the scheme only", spring(x_forwarded, proxy[1:2]), scheme)
    check("    the proxy reports nothing", spring(x_forwarded, lies), plain)
    one = [("Forwarded", 'for=203.0.113.9;proto=https;host="shop.example"')]
    check("Spring behind a proxy that writes Forwarded", spring(forwarded, one), shop)
    check("    the client sends X-Forwarded-*", spring(forwarded, x_lies + one), shop)
    check("    the proxy reports nothing", spring(forwarded, x_lies), plain)
    check("Spring without a proxy: both families are the client's", spring(untrusted, lies + x_lies), plain)


def tracing(port):
    """The default sampler records what has no parent, and otherwise does as the parent says."""
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    def seen(*fields):
        answer = json.loads(get(port, "/tracing/a", fields)[1])
        return answer["sampled"], answer["trace"] == trace, answer["parent"]

    check("OpenTelemetry, no trace context: a new trace is recorded", seen(), (True, False, None))
    recorded = ("traceparent", f"00-{trace}-{parent}-01")
    check("    the client records: continued, with the client's span as parent", seen(recorded), (True, True, parent))
    unrecorded = ("traceparent", f"00-{trace}-{parent}-00")
    check("    the client does not record", seen(unrecorded), (False, True, None))
    broken = ("traceparent", f"00-{trace}-0000000000000000-00")
    check("    the client's context is not valid", seen(broken), (True, False, None))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, installed = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        keys = pathlib.Path(folder) / "keys.json"
        keys.write_text(KEYS)
        services = {
            "spring": processes.service(["java", "-cp", f"{installed}/java/*", HERE / "SpringService.java"]),
            "tracing": processes.service([installed / "python/bin/python", HERE / "tracing_service.py"]),
        }

        def gateway(server):
            return processes.gateway(program, folder, server=server, keys=keys, **services)

        trust = 'trusted_proxies = ["127.0.0.1"]'
        untrusted, x_forwarded = gateway(""), gateway(trust)
        forwarded = gateway(f'{trust}\ntrusted_header = "forwarded"')
        java_client(folder, untrusted)
        forwarded_headers(x_forwarded, forwarded, untrusted)
        tracing(untrusted)
    if failures:
        sys.exit(f"{len(failures)} checks failed")


main()
