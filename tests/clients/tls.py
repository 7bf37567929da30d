"""What OpenSSL's client finds: versions, cipher suites, renegotiation, compression, resumption, key exchange."""

import pathlib
import re
import subprocess

from h2spec import CONFIG
from harness import HERE, certificate, check
from java_and_python import KEYS

# OpenSSL's names of what a server must not accept (RFC 9325 §4.1 and §4.2).
WEAK = {
    "NULL": "NULL",
    "anonymous": "aNULL",
    "RC4": "RC4",
    "3DES": "3DES",
    "CBC": "AES128-SHA:AES256-SHA:AES128-SHA256:AES256-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384",
    "RSA key exchange": "kRSA",
    "finite-field DHE": "kDHE",
}


def openssl(processes, program, installed, folder):
    """The part."""
    folder = pathlib.Path(folder)
    keys = folder / "keys.json"
    keys.write_text(KEYS)
    ca, cert, key = certificate(folder, ["localhost"])
    echo = processes.service([installed / "python/bin/python", HERE / "echo_service.py"])
    config = CONFIG.format(cert=cert, key=key, keys=keys, echo=echo)
    (port, _), _ = processes.gateway(program, folder, config, listeners=2)

    def connect(*options, text=""):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-CAfile", ca, *options]
        run = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
        return run.stdout + run.stderr

    def protocol(*options):
        found = re.search(r"^New, (\S+), Cipher is (\S+)", connect(*options), re.MULTILINE)
        return found.group(1) if found and found.group(2) != "(NONE)" else None

    # At the lowest security level, OpenSSL itself offers everything that it was built with.
    lowest = "DEFAULT:@SECLEVEL=0"
    check("TLS 1.3", protocol("-tls1_3"), "TLSv1.3")
    check("TLS 1.2", protocol("-tls1_2"), "TLSv1.2")
    check("TLS 1.1", protocol("-tls1_1", "-cipher", lowest), None)
    check("TLS 1.0", protocol("-tls1", "-cipher", lowest), None)
    for name, suites in WEAK.items():
        check(f"weak cipher suites: {name}", protocol("-tls1_2", "-cipher", f"{suites}:@SECLEVEL=0"), None)
    for suite in ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]:
        check(f"strong cipher suite: {suite}", protocol("-tls1_2", "-cipher", suite), "TLSv1.2")
    secure = connect("-tls1_2")
    check("secure renegotiation (RFC 5746) is announced", "Secure Renegotiation IS supported" in secure, True)
    # `R` on a line of its own asks OpenSSL's client to renegotiate.
    renegotiation = connect("-tls1_2", text="R\n")
    check("renegotiation by the client is refused", "error" in renegotiation.partition("RENEGOTIATING")[2].lower(), True)
    check("no compression", "Compression: NONE" in secure, True)
    check("extended master secret (RFC 7627)", "Extended master secret: yes" in secure, True)
    check("the certificate is valid for the name", "Verify return code: 0 (ok)" in secure, True)
    for protocol_name in ["h2", "http/1.1"]:
        check(f"ALPN {protocol_name}", f"ALPN protocol: {protocol_name}" in connect("-alpn", protocol_name), True)
    check("ALPN with an unknown protocol is refused", "alert no application protocol" in connect("-alpn", "imap"), True)
    for version in ["-tls1_2", "-tls1_3"]:
        session = folder / "session.pem"
        request = "GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n"
        connect(version, "-sess_out", session, "-ign_eof", text=request)
        again = connect(version, "-sess_in", session, "-ign_eof", text=request)
        check(f"a session is resumed ({version.lstrip('-')})", "Reused, TLSv1" in again, True)
