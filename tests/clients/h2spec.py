"""h2spec: the conformance tests of HTTP/2 (RFC 9113) and HPACK (RFC 7541), over TLS and with prior knowledge."""

import pathlib
import subprocess
import xml.etree.ElementTree as tree

from harness import certificate, check
from java_and_python import KEYS

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
jwks_file = "{keys}"
[upstreams.echo]
servers = ["http://127.0.0.1:{echo}"]
[[routes]]
path = "/*"
access = "public"
upstream = "echo"
"""

# It wants the connection to be closed without an answer. The port speaks HTTP/1.1 too, so what is no preface is a
# malformed HTTP/1.1 request, and gets a 400 before the connection is closed.
MOOT = ["Sends invalid connection preface"]


def h2spec(processes, program, installed, folder):
    """The part: all cases against one route, whose service accepts any body."""
    folder = pathlib.Path(folder)
    keys = folder / "keys.json"
    keys.write_text(KEYS)
    _, cert, key = certificate(folder, ["localhost", "127.0.0.1"])
    echo = processes.service([installed / "python/bin/python", pathlib.Path(__file__).with_name("echo_service.py")])
    config = CONFIG.format(cert=cert, key=key, keys=keys, echo=echo)
    (secure, plain), _ = processes.gateway(program, folder, config, listeners=2)
    for name, port, options, moot in [
        ("over TLS", secure, ["-t", "-k"], []),
        ("with prior knowledge", plain, [], MOOT),
    ]:
        report = folder / "h2spec.xml"
        command = [installed / "go/h2spec", "-h", "127.0.0.1", "-p", str(port), "-o", "5", "-j", report, *options]
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=300)
        cases = list(tree.parse(report).iter("testcase"))
        failed = [case.get("classname") for case in cases if case.find("failure") is not None or case.find("error") is not None]
        check(f"h2spec {name}: {len(cases)} cases", (len(cases) > 140, failed), (True, moot))
