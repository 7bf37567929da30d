"""Portcullis beside its peers: CPU time per request of each, as ratios in one run.

    python benches/compare BINARY [--rounds N] [--seconds N] [--only WORKLOAD,…] [--proxies NAME,…]

Time on a shared machine moves with the neighbours; so all proxies take turns within each round, what is compared are medians over the
rounds, and the yardstick is CPU time, not throughput. The proxy has one core, the load and the upstream the other. A wrong answer makes
the run fail. Not part of the tests: nothing here passes or fails by speed.
"""

import argparse
import os
import platform
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import proxies  # noqa: E402
import report  # noqa: E402
import scale  # noqa: E402
from fixture import Fixture, openssl_verify_us  # noqa: E402
from load import Wrong, check, load  # noqa: E402

TOKENS = 60000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare", description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=Path, help="a release build of portcullis")
    parser.add_argument("--installed", type=Path, required=True, help="where install.sh has put the peers; also holds tokens and logs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of one run")
    parser.add_argument("--only", default="", help="workloads: one, known, new, expired, full, latency, scale, tls, handshake, upstream-tls")
    parser.add_argument("--proxies", default="", help="names; default: all that are installed")
    return parser.parse_args()


class Comparison:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.given = Fixture(options.installed.resolve())
        self.results: dict[str, dict[str, list]] = {}
        self.verify_us: list[float] = []
        self.wrong: list[str] = []

    def peers(self) -> list[proxies.Proxy]:
        given, installed = self.given, self.given.folder
        binary = self.options.binary.resolve()
        possible = {
            "portcullis": lambda: proxies.portcullis(given, binary),
            "portcullis-full": lambda: proxies.portcullis(given, binary, "portcullis-full", full=True),
            "portcullis-tls-clients": lambda: proxies.portcullis(given, binary, "portcullis-tls-clients", tls="clients"),
            "portcullis-tls-upstream": lambda: proxies.portcullis(given, binary, "portcullis-tls-upstream", tls="upstream"),
            "nginx": lambda: proxies.nginx(given),
            "nginx-tls-clients": lambda: proxies.nginx(given, tls="clients"),
            "nginx-tls-upstream": lambda: proxies.nginx(given, tls="upstream"),
            "haproxy": lambda: proxies.haproxy(given, verify=False),
            "haproxy-tls-clients": lambda: proxies.haproxy(given, verify=False, tls=True),
            "haproxy-jwt": lambda: proxies.haproxy(given, verify=True),
            "envoy": lambda: proxies.envoy(given, installed, verify=False),
            "envoy-tls-clients": lambda: proxies.envoy(given, installed, verify=False, tls=True),
            "envoy-jwt": lambda: proxies.envoy(given, installed, verify=True),
            "envoy-jwt-cache": lambda: proxies.envoy(given, installed, verify=True, cache=True),
            "oauth2-proxy": lambda: proxies.oauth2_proxy(given, installed),
            "express": lambda: proxies.express(given, installed),
            "fastapi": lambda: proxies.fastapi(given, installed, HERE),
        }
        wanted = set(filter(None, self.options.proxies.split(",")))
        found = []
        for name, make in possible.items():
            if wanted and name not in wanted:
                continue
            proxy = make()
            if proxy is None:
                print(f"left out, not installed: {name}")
            else:
                found.append(proxy)
        return found

    def wants(self, workload: str) -> bool:
        only = set(filter(None, self.options.only.split(",")))
        return not only or workload in only

    def take(self, workload: str, proxy: proxies.Proxy, tokens: str, **how) -> None:
        """One run; one that goes wrong is reported at the end, and the proxy is restarted."""
        try:
            run = load(proxy, self.given, tokens, seconds=self.options.seconds, **how)
        except Wrong as error:
            print(f"  {workload:8} {error}", flush=True)
            self.wrong.append(f"{workload}: {error}")
            proxy.stop()
            proxy.start(self.given.folder)
            return
        self.results.setdefault(workload, {}).setdefault(proxy.name, []).append(run)
        print(f"  {workload:8} {proxy.name:16} {run.cpu_us:8.1f} µs CPU/request {run.per_second:9.0f}/s", flush=True)

    def round(self, peers: list[proxies.Proxy]) -> None:
        if self.wants("new"):
            self.verify_us.append(openssl_verify_us())
        for proxy in peers:
            if proxy.name == "portcullis-full":
                if self.wants("full"):
                    self.take("full", proxy, "one")
                continue
            if proxy.name.endswith("-tls-clients"):
                if self.wants("tls"):
                    self.take("tls", proxy, "one")
                if self.wants("handshake"):
                    self.take("handshake", proxy, "one", close=True)
                continue
            if proxy.name.endswith("-tls-upstream"):
                if self.wants("upstream-tls"):
                    self.take("upstream-tls", proxy, "one")
                continue
            for workload in ("one", "known"):
                if self.wants(workload):
                    self.take(workload, proxy, workload)
            if self.wants("expired") and proxy.checks:
                self.take("expired", proxy, "expired", status=401)
            if self.wants("latency"):
                self.take("latency", proxy, "one", connections=1)
            if self.wants("new") and proxy.checks:
                if proxy.remembers:
                    proxy.stop()
                    proxy.start(self.given.folder)
                self.take("new", proxy, "new", requests=TOKENS)

    def resident(self, peers: list[proxies.Proxy]) -> dict[str, int]:
        """Memory under 64 busy connections, of proxies that have just begun."""
        found = {}
        for proxy in peers:
            proxy.stop()
            proxy.start(self.given.folder)
            load(proxy, self.given, "one", seconds=1)
            found[proxy.name] = proxy.resident_kib()
        return found

    def run(self) -> None:
        upstream = proxies.upstream(self.given)
        running = [upstream]
        try:
            upstream.start(self.given.folder)
            peers = self.peers()
            for proxy in peers:
                proxy.start(self.given.folder)
                running.append(proxy)
                check(proxy, self.given)
            for number in range(self.options.rounds):
                print(f"round {number + 1} of {self.options.rounds}", flush=True)
                self.round(peers)
            resident = self.resident(peers)
            for proxy in running[1:]:
                proxy.stop()
            grown = scale.measure(self.given, self.options) if self.wants("scale") else None
        finally:
            for proxy in running:
                proxy.stop()
        report.print_all(self.results, self.verify_us, resident, grown)


def machine() -> str:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown processor")
    return f"{model}, {os.cpu_count()} processors, Linux {platform.release()}"


def main() -> int:
    options = arguments()
    options.installed.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(options)
    comparison.given.prepare()
    print(machine())
    try:
        comparison.run()
    except Wrong as error:
        comparison.wrong.append(str(error))
    for wrong in comparison.wrong:
        print(f"wrong answer: {wrong}", file=sys.stderr)
    return 1 if comparison.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
