"""How cost grows with the configuration and with connections, and how workers share the work. Of Portcullis alone, and of nginx for one worker."""

import selectors
import socket
import statistics
import time
from pathlib import Path

import proxies
from fixture import Fixture
from load import check, load

IDLE = 10_000
CELLS = 100_000
REPEATS = 5


def measure(given: Fixture, options) -> list[str]:
    binary, seconds = options.binary.resolve(), options.seconds
    found = growth(given, binary, seconds)
    found += idle(given, binary)
    found += workers(given, binary, seconds)
    return found


def growth(given: Fixture, binary: Path, seconds: float) -> list[str]:
    """One route and issuer beside a thousand and a hundred; then with a full limiter and idle connections."""
    small = proxies.portcullis(given, binary, "small", limited=True)
    large = proxies.portcullis(given, binary, "large", growth=True)
    cells = proxies.portcullis(given, binary, "cells", growth=True)
    held = []
    try:
        for proxy in (small, large, cells):
            proxy.start(given.folder)
            check(proxy, given)
        before = cells.resident_kib()
        # Every request has another key, until there are as many cells as wanted.
        load(cells, given, "one", seconds=120, requests=CELLS, varied="X-Key")
        filled = cells.resident_kib()
        held = open_idle(cells.port, IDLE)
        time.sleep(3)
        runs = {"small": [], "large": [], "cells": []}
        for _ in range(REPEATS):
            for proxy in (small, large, cells):
                runs[proxy.name].append(load(proxy, given, "one", seconds=seconds).cpu_us)
        medians = {name: statistics.median(values) for name, values in runs.items()}
        return [
            "growth: CPU µs per request, median of " + str(REPEATS),
            f"  1 route, 1 issuer, a limit                     {medians['small']:8.1f}",
            f"  1,000 routes, 100 issuers, a limit             {medians['large']:8.1f}  {medians['large'] / medians['small']:.2f}",
            f"  the same with {CELLS:,} cells, {IDLE:,} idle      {medians['cells']:8.1f}  {medians['cells'] / medians['small']:.2f}",
            f"  resident KiB: small {small.resident_kib()}, large {large.resident_kib()},"
            f" before the cells {before}, with them {filled}, with {IDLE:,} idle {cells.resident_kib()}",
        ]
    finally:
        for connection in held:
            connection.close()
        for proxy in (small, large, cells):
            proxy.stop()


def idle(given: Fixture, binary: Path) -> list[str]:
    """Memory of connections that have had an answer each and now wait."""
    proxy = proxies.portcullis(given, binary, "idle")
    held = []
    try:
        proxy.start(given.folder)
        check(proxy, given)
        load(proxy, given, "one", seconds=1)
        before = proxy.resident_kib()
        held = open_idle(proxy.port, IDLE, f"Authorization: Bearer {given.first('one')}\r\n")
        at_once = proxy.resident_kib()
        # A connection rests after a second without a request; what it lets go of, the allocator gives back when there is work again.
        time.sleep(3)
        load(proxy, given, "one", seconds=1)
        after = proxy.resident_kib()
        return [
            f"idle: {(after - before) / IDLE:.1f} KiB for each of {IDLE:,} connections; resident KiB: {before} before,"
            f" {at_once} at once, {after} when they rest"
        ]
    finally:
        for connection in held:
            connection.close()
        proxy.stop()


def open_idle(port: int, count: int, fields: str = "") -> list[socket.socket]:
    """Opens connections, lets each have one answer, and keeps them."""
    request = f"GET /orders/1 HTTP/1.1\r\nHost: api.example\r\n{fields}\r\n".encode()
    held = []
    for start in range(0, count, 500):
        chunk = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(min(500, count - start))]
        for connection in chunk:
            connection.sendall(request)
        waiting = selectors.DefaultSelector()
        for connection in chunk:
            waiting.register(connection, selectors.EVENT_READ)
        left, until = len(chunk), time.monotonic() + 30
        while left and time.monotonic() < until:
            for key, _ in waiting.select(timeout=1):
                if not key.fileobj.recv(65536):
                    raise SystemExit("an idle connection was closed")
                waiting.unregister(key.fileobj)
                left -= 1
        held += chunk
    return held


def workers(given: Fixture, binary: Path, seconds: float) -> list[str]:
    """One worker and two, both free to use both cores, which the load shares with them."""
    one = proxies.portcullis(given, binary, "one-worker")
    two = proxies.portcullis(given, binary, "two-workers", workers=2)
    one.cpus = two.cpus
    try:
        for proxy in (one, two):
            proxy.start(given.folder)
            check(proxy, given)
        runs, shares = {"one-worker": [], "two-workers": []}, {}
        for _ in range(REPEATS):
            for proxy in (one, two):
                runs[proxy.name].append(load(proxy, given, "one", seconds=seconds).cpu_us)
        for connections in (64, 1000):
            before = by_worker(two)
            load(two, given, "one", seconds=seconds, connections=connections)
            spent = [after - earlier for after, earlier in zip(by_worker(two), before, strict=True)]
            shares[connections] = " and ".join(f"{100 * part / sum(spent):.0f} %" for part in spent)
        single, double = (statistics.median(runs[name]) for name in ("one-worker", "two-workers"))
        return [
            f"workers: one {single:.1f}, two {double:.1f} µs CPU per request: {double / single:.2f}",
            "  share of the work of each of two: " + "; ".join(f"{n} connections: {s}" for n, s in shares.items()),
        ]
    finally:
        for proxy in (one, two):
            proxy.stop()


def by_worker(proxy: proxies.Proxy) -> list[int]:
    """CPU ticks of each worker thread."""
    threads = {}
    for task in Path(f"/proc/{proxy.process.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("worker-"):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            threads[name] = int(fields[11]) + int(fields[12])
    return [threads[name] for name in sorted(threads)]
