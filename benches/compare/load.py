"""Asking: one request to see that a proxy answers rightly, and wrk for the load."""

import http.client
import json
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import fixture
from fixture import Fixture
from proxies import Proxy

HERE = Path(__file__).parent


@dataclass
class Run:
    """What one run of wrk brought, and what it cost."""

    requests: int
    cpu_us: float
    p50_us: float
    p99_us: float
    per_second: float


class Wrong(Exception):
    """A proxy gave an answer that it must not give: its figures would mean nothing."""


def ask(proxy: Proxy, path: str, token: str) -> tuple[int, str]:
    if proxy.tls:
        trust = ssl.create_default_context(cafile=proxy.output.parent / "ca.pem")
        connection = http.client.HTTPSConnection("localhost", proxy.port, timeout=10, context=trust)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    try:
        fields = {"Host": "api.example"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request("GET", path, headers=fields)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def check(proxy: Proxy, given: Fixture) -> None:
    """A good token passes, and with the caller's name; a forged one, an expired one and none do not."""
    good = given.first("one")
    expect(proxy, "a good token", ask(proxy, "/orders/1", good), (200, fixture.ANSWER))
    if not proxy.checks:
        return
    for name in ("forged", "expired", "none"):
        status, _ = ask(proxy, "/orders/1", given.first(name))
        expect(proxy, f"a token that is {name}", status, 401)
    # oauth2-proxy names callers by headers of its own.
    if proxy.name != "oauth2-proxy":
        subject = fixture.claims(0, 0, expired=False)["sub"]
        expect(proxy, "the caller's name", ask(proxy, "/orders/echo", good), (200, subject))


def expect(proxy: Proxy, what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise Wrong(f"{proxy.name}: {what}: got {got!r}, wanted {wanted!r}; see {proxy.output}")


def load(proxy: Proxy, given: Fixture, tokens: str, *, seconds: float, connections: int = 64, status: int = 200,
         requests: int = 0, varied: str = "", path: str = "/orders/1", close: bool = False) -> Run:
    """Runs wrk on the other core and accounts the CPU time of the proxy's processes. `requests`: stops after so many. `close`: each
    request has a connection of its own; wrk does not resume sessions, so each has a full TLS handshake."""
    before = proxy.cpu_seconds()
    text = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s",
         "-s", str(HERE / "load.lua"), f"{'https' if proxy.tls else 'http'}://localhost:{proxy.port}", "--",
         str(given.tokens(tokens)), path, varied, str(requests), "close" if close else ""],
        check=True, capture_output=True, text=True,
    ).stdout
    cpu = proxy.cpu_seconds() - before
    found = json.loads(text.strip().splitlines()[-1])
    count = found["requests"]
    refused = found["not_2xx"]
    if found["broken"] or count == 0 or refused != (count if status >= 400 else 0):
        raise Wrong(f"{proxy.name}: {found}; see {proxy.output}")
    return Run(count, cpu * 1e6 / count, found["p50_us"], found["p99_us"], count / found["seconds"])
