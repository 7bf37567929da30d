"""Checks the gateway against Pebble, the ACME server that Let's Encrypt makes for tests.

usage: check.py GATEWAY PEBBLE CHALLTESTSRV [PART…]

GATEWAY is the program, PEBBLE and CHALLTESTSRV are those of github.com/letsencrypt/pebble. `make test-acme` builds all
three. Pebble refuses some nonces and answers late, as it does by default. The parts:

tls-alpn-01  certificates for two hosts; restart, renewal, an ACME server that is down and comes back without its data
http-01      the challenge without TLS, and an external account
mutual-tls   the challenge in a handshake where clients need a certificate
renewal-info a renewal that the ACME server asks for
problems     a host that the ACME server refuses harms no other

Exit code 1 if a check fails. Takes five minutes, most of it waiting for certificates to become old.
"""

import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients"))
import harness  # noqa: E402
from harness import check  # noqa: E402

# Seconds for which certificates are valid, and after which they are renewed: the gateway lets a third of the time pass
# whatever `renew_before` says.
LIFETIME, RENEWAL = 150, 50
HOSTS = ["api.example.test", "www.example.test"]
HMAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, condition, seconds=30):
    """The first true value of `condition`; ends the check if there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    sys.exit(f"timed out waiting for {what}")


class Site:
    """Pebble, the names of the hosts, a service, and a gateway in front of it."""

    def __init__(self, processes, gateway, pebble, challtestsrv, folder):
        self.processes, self.program, self.pebble_program = processes, gateway, pebble
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "state" / "acme"
        self.https, self.http, self.admin, self.acme, self.management, dns = (free_port() for _ in range(6))
        self.ca, *self.server = harness.certificate(folder, ["localhost", "127.0.0.1"])
        self.dns = f"127.0.0.1:{dns}"
        off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", f"127.0.0.1:{free_port()}"]
        names = [challtestsrv, "-dnsserver", self.dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", *off]
        processes.start(names, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        threading.Thread(target=service.serve_forever, daemon=True).start()
        self.service = service.server_port
        self.events = []

    def start_pebble(self, **settings):
        """Starts Pebble, whose data is new, and fetches its root certificate."""
        config = {
            "listenAddress": f"127.0.0.1:{self.acme}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.server[0]),
            "privateKey": str(self.server[1]),
            "httpPort": self.http,
            "tlsPort": self.https,
            "keyAlgorithm": "ecdsa",
            "domainBlocklist": ["blocked.example.test"],
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"short": {"description": "for tests", "validityPeriod": LIFETIME}},
            **settings,
        }
        file = self.folder / "pebble.json"
        file.write_text(json.dumps({"pebble": config}))
        log = (self.folder / "pebble.log").open("a")
        command = [self.pebble_program, "-config", file, "-dnsserver", self.dns]
        self.pebble = self.processes.start(command, stdout=log, stderr=log)
        self.root = self.folder / "root.pem"

        def root():
            url = f"https://localhost:{self.management}/roots/0"
            return subprocess.run(["curl", "-sf", "--cacert", self.ca, url], capture_output=True).stdout

        self.root.write_bytes(wait("Pebble", root))

    def stop_pebble(self):
        self.pebble.kill()
        self.pebble.wait()

    def start_gateway(self, hosts, keys="", tls=""):
        """Starts the gateway with further keys of `acme` and `tls`; its events go to `events`."""
        file = self.folder / "gateway.toml"
        file.write_text(f"""
            [server]
            listen = "127.0.0.1:{self.https}"
            redirect_listen = ["127.0.0.1:{self.http}"]
            [server.tls]
            {tls}
            [server.tls.acme]
            hosts = {json.dumps(hosts)}
            terms_agreed = true
            directory = "https://localhost:{self.acme}/dir"
            contacts = ["mailto:ops@example.test"]
            state_dir = "{self.state}"
            ca_file = "{self.ca}"
            profile = "short"
            renew_before = "{LIFETIME}s"
            {keys}
            [admin]
            listen = "127.0.0.1:{self.admin}"
            [upstreams.service]
            servers = ["http://127.0.0.1:{self.service}"]
            [[routes]]
            path = "/*"
            access = "public"
            upstream = "service"
        """)
        self.gateway = self.processes.start(
            [self.program, "run", "-c", file], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        events = self.events = []
        threading.Thread(target=lambda: events.extend(iter(self.gateway.stderr.readline, "")), daemon=True).start()
        wait(f"the gateway: {events}", lambda: sum('"address"' in event for event in list(events)) >= 2)

    def stop_gateway(self):
        self.gateway.terminate()
        self.gateway.kill()
        self.gateway.wait()

    def seen(self, *parts):
        """The events that contain all of these texts."""
        return [event for event in list(self.events) if all(part in event for part in parts)]

    def orders(self, result):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as response:
            text = response.read().decode()
        return int(re.search(rf'^portcullis_acme_orders_total{{result="{result}"}} (\d+)', text, re.M)[1])

    def reasons(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz") as response:
            return json.load(response).get("reasons", [])

    def get(self, host, root=None):
        """What curl says to a request for this host: the status, or 0 if it does not trust the certificate."""
        url, resolve = f"https://{host}:{self.https}/", f"{host}:{self.https}:127.0.0.1"
        command = ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "--cacert", root or self.root]
        return int(subprocess.run([*command, "--resolve", resolve, url], capture_output=True, text=True).stdout)

    def certificate(self, host):
        """The certificate that this host has, in PEM."""
        address = ["-connect", f"127.0.0.1:{self.https}", "-servername", host]
        shown = subprocess.run(["openssl", "s_client", *address], input="", capture_output=True, text=True).stdout
        return subprocess.run(["openssl", "x509"], input=shown, capture_output=True, text=True).stdout

    def serial(self, host):
        """The serial number of the certificate that this host has."""
        command = ["openssl", "x509", "-noout", "-serial"]
        return subprocess.run(command, input=self.certificate(host), capture_output=True, text=True).stdout.strip()

    def suggest_renewal(self, host):
        """Has Pebble say that the certificate of this host was to be renewed last year."""
        window = {"start": "2025-01-01T00:00:00Z", "end": "2025-01-02T00:00:00Z"}
        answer = json.dumps({"suggestedWindow": window})
        body = json.dumps({"Certificate": self.certificate(host), "ARIResponse": answer})
        url = f"https://localhost:{self.management}/set-renewal-info/"
        subprocess.run(["curl", "-sf", "--cacert", self.ca, "-d", body, url], check=True)


class Service(http.server.BaseHTTPRequestHandler):
    """Answers 200."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def tls_alpn(site):
    site.start_pebble()
    site.start_gateway(HOSTS)
    wait("both certificates", lambda: len(site.seen("certificate obtained")) == 2, 60)
    issued_at = time.monotonic()
    for host in HOSTS:
        check(f"curl trusts the certificate for {host}", site.get(host), 200)
    check("orders are counted", (site.orders("success"), site.orders("failure")), (2, 0))
    check("an unknown host gets another's certificate", site.get("other.example.test"), 0)
    first = {host: site.serial(host) for host in HOSTS}
    check("each host has a certificate of its own", len(set(first.values())), 2)

    files = sorted(str(file.relative_to(site.state)) for file in site.state.rglob("*") if file.is_file())
    account = f"accounts/localhost-{site.acme}-dir.json"
    of_hosts = [f"{folder}/{host}.{ending}" for folder, ending in (("attempts", "json"), ("certificates", "pem")) for host in HOSTS]
    check("the state directory", files, [account, *of_hosts, "lock"])
    modes = {oct(file.stat().st_mode & 0o777) for file in site.state.rglob("*") if file.is_file()}
    modes |= {oct(folder.stat().st_mode & 0o777) for folder in [site.state, *site.state.iterdir()] if folder.is_dir()}
    check("modes of files and directories", modes, {"0o600", "0o700"})

    site.stop_gateway()
    site.start_gateway(HOSTS)
    check("the certificates survive a restart", {host: site.serial(host) for host in HOSTS}, first)
    check("and are used at once", [site.get(host) for host in HOSTS], [200, 200])

    wait("the renewal of both", lambda: len(site.seen("certificate obtained")) == 2, RENEWAL + 60)
    # Pebble suggests a window of two days, which has begun for so short a lifetime. Whether a gateway has asked by then
    # is up to chance.
    is_early = bool(site.seen("wants the certificate to be renewed early"))
    check("renewed when a third of the time has passed", is_early or time.monotonic() - issued_at > RENEWAL - 2, True)
    second = {host: site.serial(host) for host in HOSTS}
    check("both certificates are others", [second[host] != first[host] for host in HOSTS], [True, True])
    check("curl trusts them", [site.get(host) for host in HOSTS], [200, 200])
    check("restart and renewal took two orders", (site.orders("success"), site.orders("failure")), (2, 0))

    old_root = site.folder / "old-root.pem"
    old_root.write_bytes(site.root.read_bytes())
    site.stop_pebble()
    wait("failures", lambda: site.orders("failure") == 2, RENEWAL + 30)
    check("the log says why", bool(site.seen("cannot ", HOSTS[0], "Connection refused", "next_attempt")), True)
    check("the old certificates are served", {host: site.serial(host) for host in HOSTS}, second)
    check("and are good", [site.get(host, old_root) for host in HOSTS], [200, 200])
    site.start_pebble()
    wait("the recovery", lambda: site.orders("success") == 4, 120)
    check("the account was replaced", bool(site.seen("the ACME server does not know the account")), True)
    check("curl trusts what came after", [site.get(host) for host in HOSTS], [200, 200])
    attempts = [json.loads((site.state / "attempts" / f"{host}.json").read_text()) for host in HOSTS]
    check("the failed attempts are forgotten", [attempt["failures"] for attempt in attempts], [0, 0])


def http_01(site):
    binding = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": HMAC_KEY}}
    site.start_pebble(**binding)
    external = f'external_account = {{ key_id = "kid-1", hmac_key = "{HMAC_KEY}" }}'
    site.start_gateway(HOSTS[:1], f'challenge = "http-01"\n{external}')
    wait("the certificate", lambda: site.seen("certificate obtained"), 60)
    check("curl trusts the certificate", site.get(HOSTS[0]), 200)
    challenge = f"http://127.0.0.1:{site.http}/.well-known/acme-challenge/x"
    command = ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", challenge]
    status = subprocess.run(command, capture_output=True, text=True).stdout
    check("a challenge that is not expected is redirected", status, "308")


def mutual_tls(site):
    site.start_pebble()
    site.start_gateway(HOSTS[:1], tls=f'client_auth = "required"\nclient_ca = "{site.ca}"')
    wait("the certificate", lambda: site.seen("certificate obtained"), 60)
    check("the certificate is presented", site.serial(HOSTS[0]).startswith("serial="), True)
    check("a client without a certificate is refused", site.get(HOSTS[0]), 0)


def renewal_info(site):
    site.start_pebble(profiles={"short": {"description": "for tests", "validityPeriod": 86400}})
    site.start_gateway(HOSTS[:1])
    wait("the certificate", lambda: site.seen("certificate obtained"), 60)
    first = site.serial(HOSTS[0])
    site.stop_gateway()
    site.start_gateway(HOSTS[:1])
    site.gateway.send_signal(signal.SIGHUP)
    wait("the reload", lambda: site.seen("configuration reloaded"))
    check("the usual window is no reason to renew", site.serial(HOSTS[0]), first)
    site.suggest_renewal(HOSTS[0])
    site.gateway.send_signal(signal.SIGHUP)
    wait("the renewal", lambda: site.seen("certificate obtained"), 60)
    check("the log says why", len(site.seen("wants the certificate to be renewed early", "2025-01-01T")), 1)
    check("another certificate is used", site.serial(HOSTS[0]) != first, True)
    site.suggest_renewal(HOSTS[0])
    reloads = len(site.seen("configuration reloaded"))
    site.gateway.send_signal(signal.SIGHUP)
    wait("the reload", lambda: len(site.seen("configuration reloaded")) > reloads)
    time.sleep(3)
    check("it does not get another one at once", site.orders("success"), 1)


def problems(site):
    site.start_pebble()
    site.start_gateway(["blocked.example.test", HOSTS[0]])
    wait("the good certificate", lambda: site.seen("certificate obtained", HOSTS[0]), 60)
    check("the other host gets its certificate", site.get(HOSTS[0]), 200)
    refused = site.seen("cannot obtain a certificate", "blocked.example.test", "rejectedIdentifier")
    check("the log has the type of the problem", len(refused), 1)
    check("both are counted", (site.orders("success"), site.orders("failure")), (1, 1))
    check("a host without a certificate gets no other one", site.serial("blocked.example.test"), "")
    check("/readyz says so", site.reasons(), ["no certificate for blocked.example.test yet"])
    site.stop_gateway()
    site.start_gateway(["blocked.example.test", HOSTS[0]])
    time.sleep(3)
    check("a restart is no new attempt", (site.orders("success"), site.orders("failure")), (0, 0))


PARTS = {"tls-alpn-01": tls_alpn, "http-01": http_01, "mutual-tls": mutual_tls, "renewal-info": renewal_info, "problems": problems}


def main():
    *programs, = (str(pathlib.Path(name).resolve()) for name in sys.argv[1:4])
    chosen = sys.argv[4:] or list(PARTS)
    if len(programs) < 3 or set(chosen) - set(PARTS):
        sys.exit(__doc__)
    for name in chosen:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder, harness.Processes() as processes:
            PARTS[name](Site(processes, *programs, folder))
    if harness.failures:
        sys.exit(f"{len(harness.failures)} checks failed")


main()
