"""Half an hour of everything at once: does an answer go wrong, do memory and file descriptors grow?

usage: soak.py GATEWAY [--minutes N]

Clients send requests over plain HTTP/1.1, TLS and HTTP/2, with good tokens and bad ones, and know the answer to each.
Meanwhile the issuer changes its keys, certificates are swapped, the configuration is reloaded, backends are killed and
started again, and slow clients hold connections. `make soak` runs it. Exit code 1 if an answer was wrong, or if memory
or descriptors did not stay flat.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

from harness import certificate  # noqa: E402
from issuer import Issuer  # noqa: E402

CONFIG = """
[server]
listen = "127.0.0.1:{secure}"
plain_listen = ["127.0.0.1:{plain}"]
header_timeout = "5s"
min_body_rate = "240 B/s"
# All clients have one address, and some of them send forged tokens all the time.
auth_failures = "off"
[server.tls]
certificates = [{{ cert = "{folder}/live/cert.pem", key = "{folder}/live/key.pem" }}]
[admin]
listen = "127.0.0.1:{admin}"
[issuers.main]
issuer = "http://127.0.0.1:{issuer}"
audiences = ["api"]
algorithms = ["ES256"]
jwks_cooldown = "1s"
jwks_refresh = "1m"
[upstreams.echo]
servers = [{servers}]
health = {{ path = "/health", interval = "1s" }}
[limits.all]
key = "route"
rate = "{rate}"
burst = 1000000
[[routes]]
path = "/orders/*"
scopes = ["orders:read"]
upstream = "echo"
limits = ["all"]
[[routes]]
path = "/admin/*"
scopes = ["admin"]
upstream = "echo"
[log]
level = "warn"
"""

BACKENDS = 3
CLIENTS = 12
SLOW_CLIENTS = 100


def free_ports(count):
    """Ports that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Soak:
    """The gateway, what is around it, and what happens to it."""

    def __init__(self, program, folder, minutes):
        self.program, self.folder = program, pathlib.Path(folder)
        self.until = time.monotonic() + minutes * 60
        self.secure, self.plain, self.admin, *self.ports = free_ports(3 + BACKENDS)
        self.issuer = Issuer()
        self.backends = [None] * BACKENDS
        self.counts, self.wrong, self.events = collections.Counter(), [], collections.Counter()
        self.samples = []
        self.rate = 1_000_000
        self.killed_at = time.monotonic()

    def is_running(self):
        return time.monotonic() < self.until

    # What is around the gateway.

    def start_backend(self, index):
        command = [sys.executable, HERE / "backend.py", str(self.ports[index])]
        self.backends[index] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.backends[index].stdout.readline()

    def write_certificate(self):
        """A new certificate of the same authority, swapped in as Kubernetes does: by one rename of a symbolic link."""
        folder = self.folder / f"certificates-{self.events['certificate']}"
        folder.mkdir()
        for name in ("ca.pem", "ca.key"):
            if (self.folder / name).exists():
                (folder / name).symlink_to(self.folder / name)
        certificate(folder, ["localhost", "127.0.0.1"])
        for name in ("ca.pem", "ca.key"):
            if not (self.folder / name).exists():
                (folder / name).rename(self.folder / name)
        new = self.folder / "new"
        new.symlink_to(folder.name)
        new.rename(self.folder / "live")
        self.events["certificate"] += 1

    def write_config(self):
        servers = ", ".join(f'"http://127.0.0.1:{port}"' for port in self.ports)
        text = CONFIG.format(
            secure=self.secure, plain=self.plain, admin=self.admin, issuer=self.issuer.port, folder=self.folder,
            servers=servers, rate=f"{self.rate}/s",
        )
        new = self.folder / "new.toml"
        new.write_text(text)
        new.rename(self.folder / "gateway.toml")

    def start_gateway(self):
        self.log = (self.folder / "events.log").open("w")
        command = [self.program, "run", "-c", self.folder / "gateway.toml"]
        self.gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log)
        for _ in range(100):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.admin}/readyz", trust_env=False).status_code == 200:
                    return
            time.sleep(0.1)
        sys.exit("the gateway does not become ready: " + (self.folder / "events.log").read_text())

    # What happens meanwhile. Each returns after one event.

    def rotate_keys(self):
        self.issuer.rotate()

    def swap_certificate(self):
        self.write_certificate()

    def reload(self):
        self.rate += 1
        self.write_config()
        self.gateway.send_signal(signal.SIGHUP)

    def kill_backend(self):
        """The others serve while one is away. The next event begins after it has come back."""
        index = random.randrange(BACKENDS)
        self.killed_at = time.monotonic()
        self.backends[index].kill()
        self.backends[index].wait()
        time.sleep(random.uniform(1, 5))
        self.start_backend(index)
        time.sleep(5)

    def repeat(self, name, seconds):
        while self.is_running():
            time.sleep(random.uniform(seconds / 2, seconds))
            getattr(self, name)()
            self.events[name] += 1

    # The clients.

    def client(self, number):
        """Requests over one of the protocols, a new connection now and then."""
        trust = ssl.create_default_context(cafile=self.folder / "ca.pem")
        base, http2 = [
            (f"http://127.0.0.1:{self.plain}", False),
            (f"https://localhost:{self.secure}", False),
            (f"https://localhost:{self.secure}", True),
        ][number % 3]
        numbers = random.Random(number)
        while self.is_running():
            with httpx.Client(http2=http2, verify=trust, trust_env=False, timeout=20, base_url=base) as client:
                for _ in range(numbers.randrange(1, 200)):
                    if not self.is_running():
                        return
                    self.request(client, numbers, f"{number}-{self.counts[number]}")
                    self.counts[number] += 1
                    time.sleep(numbers.uniform(0, 0.05))

    def request(self, client, numbers, name):
        """One request, and whether its answer is the right one."""
        kind = numbers.choice(["good"] * 12 + ["post", "none", "expired", "forged", "scope", "path"])
        subject = f"user-{numbers.randrange(500)}"
        token = self.issuer.token(subject, "expired" if kind == "expired" else "good")
        if kind == "forged":
            token = token[:-8] + ("AAAAAAAA" if not token.endswith("AAAAAAAA") else "BBBBBBBB")
        headers = {} if kind == "none" else {"Authorization": f"Bearer {token}"}
        path = {"scope": f"/admin/{name}", "path": f"/nothing/{name}"}.get(kind, f"/orders/{name}")
        expected = {"none": 401, "expired": 401, "forged": 401, "scope": 403, "path": 404}.get(kind, 200)
        headers["X-Identity-Subject"] = "intruder"
        try:
            if kind == "post":
                answer = client.post(path, headers=headers, content=name.encode() * numbers.randrange(1, 2000))
            else:
                answer = client.get(path, headers=headers)
        except httpx.RemoteProtocolError as error:
            # A response that has begun cannot be made good, and must not look complete.
            if time.monotonic() - self.killed_at > 3:
                self.wrong.append(f"{kind} {path}: {error!r}")
            self.counts["response of a dying backend broken off"] += 1
            return
        except httpx.HTTPError as error:
            self.wrong.append(f"{kind} {path}: {error!r}")
            return
        self.counts[answer.status_code] += 1
        # A request with a body that a dying backend may have begun is not sent again (RFC 9110 §9.2.2).
        if kind == "post" and answer.status_code == 502:
            self.counts["post to a dying backend"] += 1
            return
        seen = answer.json() if answer.status_code in (200, 401, 403, 404) else answer.text
        if answer.status_code != expected:
            self.wrong.append(f"{kind} {path}: {answer.status_code} in place of {expected}: {seen}")
        elif expected == 200 and (seen["path"], seen["subject"]) != (path, subject):
            self.wrong.append(f"{kind} {path} of {subject}: the answer to another request: {seen}")

    def slow_client(self, number):
        """Sends a request a byte at a time, or reads nothing; the gateway ends it, and it comes back."""
        while self.is_running():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.plain), timeout=60) as peer:
                for byte in f"GET /orders/slow-{number} HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".encode():
                    peer.send(bytes([byte]))
                    time.sleep(0.5)
                    if not self.is_running():
                        return
            time.sleep(1)

    def sample(self):
        """Memory in KiB, and file descriptors."""
        status = pathlib.Path(f"/proc/{self.gateway.pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0])
        self.samples.append((resident, len(os.listdir(f"/proc/{self.gateway.pid}/fd"))))

    def run(self):
        self.write_certificate()
        self.write_config()
        for index in range(BACKENDS):
            self.start_backend(index)
        self.start_gateway()
        events = [("rotate_keys", 60), ("swap_certificate", 40), ("reload", 20), ("kill_backend", 20)]
        work = [threading.Thread(target=self.repeat, args=event, daemon=True) for event in events]
        work += [threading.Thread(target=self.client, args=(number,), daemon=True) for number in range(CLIENTS)]
        work += [threading.Thread(target=self.slow_client, args=(number,), daemon=True) for number in range(SLOW_CLIENTS)]
        for thread in work:
            thread.start()
        while self.is_running():
            time.sleep(2)
            self.sample()
            if self.gateway.poll() is not None:
                self.wrong.append(f"the gateway ended with {self.gateway.returncode}")
                break
        for thread in work[: len(events) + CLIENTS]:
            thread.join(30)

    def stop(self):
        for child in [*self.backends, getattr(self, "gateway", None)]:
            if child is not None:
                child.kill()
                child.wait()

    def is_flat(self):
        """Whether the last quarter of the samples is no higher than the second, but for a tenth and what noise there is."""
        quarter = len(self.samples) // 4
        for name, column, noise in [("KiB resident", 0, 2048), ("descriptors", 1, 20)]:
            second = max(sample[column] for sample in self.samples[quarter : 2 * quarter])
            last = max(sample[column] for sample in self.samples[-quarter:])
            print(f"{name}: at most {second} in the second quarter, {last} in the last")
            if last > second * 1.1 + noise:
                return False
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gateway", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(options.gateway.resolve(), folder, options.minutes)
        try:
            soak.run()
        finally:
            soak.stop()
        requests = sum(count for status, count in soak.counts.items() if isinstance(status, int) and status >= 100)
        print(f"{requests} requests: {json.dumps({str(key): count for key, count in soak.counts.items() if not isinstance(key, int) or key >= 100})}")
        print(f"events: {json.dumps(soak.events)}")
        for wrong in soak.wrong[:20]:
            print(f"WRONG {wrong}")
        print((pathlib.Path(folder) / "events.log").read_text()[-2000:] if soak.wrong else "no wrong answer")
        is_flat = soak.is_flat()
        sys.exit(1 if soak.wrong or not is_flat else 0)


main()
