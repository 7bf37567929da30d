"""Java's HttpClient, Spring's ForwardedHeaderFilter, and OpenTelemetry's SDK with its default sampler."""

import http.client
import json
import pathlib
import subprocess

from harness import HERE, check

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


def services(processes, program, installed, folder):
    """The part: starts both services and a gateway for each trust in proxies."""
    keys = pathlib.Path(folder) / "keys.json"
    keys.write_text(KEYS)
    ports = {
        "spring": processes.service(["java", "-cp", f"{installed}/java/*", HERE / "SpringService.java"]),
        "tracing": processes.service([installed / "python/bin/python", HERE / "tracing_service.py"]),
    }

    def gateway(server):
        config = CONFIG.format(server=server, keys=keys, **ports)
        return processes.gateway(program, folder, config)[0][0]

    trust = 'trusted_proxies = ["127.0.0.1"]'
    untrusted, x_forwarded = gateway(""), gateway(trust)
    forwarded = gateway(f'{trust}\ntrusted_header = "forwarded"')
    java_client(folder, untrusted)
    forwarded_headers(x_forwarded, forwarded, untrusted)
    tracing(untrusted)
