"""What curl and OpenSSL's client find with client certificates, which OpenSSL has issued and revoked."""

import json
import pathlib
import subprocess

from h2spec import CONFIG
from harness import HERE, certificate, check
from java_and_python import KEYS

CLIENT_AUTH = """
client_auth = "optional"
client_ca = "{folder}/clients.pem"
client_crl = "{folder}/clients.crl"
[identity.headers]
X-Client = "client_cert_subject"
X-Names = "client_cert_san"
"""

ROUTE = """forward_client_cert = "certificate"
[[routes]]
path = "/secure"
access = "public"
client_cert = "required"
upstream = "echo"
[[routes]]
"""

CA = """
[ca]
default_ca = this
[this]
database = {folder}/index.txt
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
certificate = {folder}/clients.pem
private_key = {folder}/clients.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
copy_extensions = copy
string_mask = utf8only
[any]
commonName = supplied
organizationName = optional
"""


def authority(folder):
    """An authority in `folder`, run by `openssl ca`. Returns functions that issue and revoke."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    ca = folder / "ca.cnf"
    ca.write_text(CA.format(folder=folder))
    (folder / "index.txt").touch()
    for name in ["serial", "crlnumber"]:
        (folder / name).write_text("1000\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    openssl("req", "-x509", *new_key, "-days", "30", "-keyout", folder / "clients.key", "-out", folder / "clients.pem",
            "-subj", f"/CN={folder.name}", *extensions)

    def issue(name):
        key, request, cert = (folder / f"{name}.{ending}" for ending in ("key", "csr", "pem"))
        leaf = ["-addext", f"subjectAltName=URI:spiffe://test/{name},DNS:{name}.test"]
        leaf += ["-addext", "extendedKeyUsage=clientAuth", "-addext", "basicConstraints=CA:FALSE"]
        openssl("req", "-new", *new_key, "-utf8", "-keyout", key, "-out", request, "-subj", f"/O=A, B & C/CN={name}", *leaf)
        openssl("ca", "-config", ca, "-batch", "-notext", "-in", request, "-out", cert)
        return cert, key

    def list_revoked():
        openssl("ca", "-config", ca, "-gencrl", "-out", folder / "clients.crl")

    def revoke(cert):
        openssl("ca", "-config", ca, "-revoke", cert)
        list_revoked()

    list_revoked()
    return issue, revoke


def clients(processes, program, installed, folder):
    """The part."""
    folder = pathlib.Path(folder)
    keys = folder / "keys.json"
    keys.write_text(KEYS)
    ca, cert, key = certificate(folder, ["localhost", "other.localhost"])
    issue, revoke = authority(folder)
    alice, mallory = issue("alice"), issue("mallory")
    (folder / "other").mkdir()
    stranger = authority(folder / "other")[0]("alice")
    revoke(mallory[0])
    echo = processes.service([installed / "python/bin/python", HERE / "echo_service.py"])
    config = CONFIG.format(cert=cert, key=key, keys=keys, echo=echo)
    config = config.replace("[admin]", CLIENT_AUTH.format(folder=folder) + "[admin]").replace("[[routes]]\n", ROUTE, 1)
    (port, _), _ = processes.gateway(program, folder, config, listeners=2)

    # The same notation, by another implementation.
    subject = subprocess.run(["openssl", "x509", "-in", alice[0], "-noout", "-subject", "-nameopt", "RFC2253"], check=True,
                             capture_output=True, text=True).stdout.removeprefix("subject=").strip()

    def curl(identity, path, *options, host="localhost"):
        """The status, and the fields at the service; or why there is no response."""
        command = ["curl", "-sS", "--cacert", ca, "--resolve", f"*:{port}:127.0.0.1", "-w", "\n%{http_code}", *options]
        if identity:
            command += ["--cert", identity[0], "--key", identity[1]]
        run = subprocess.run([*command, f"https://{host}:{port}{path}"], capture_output=True, text=True, timeout=30)
        body, _, status = run.stdout.rpartition("\n")
        return (int(status), dict(json.loads(body).get("fields", []))) if run.returncode == 0 else (run.stderr, {})

    own = subprocess.run(["openssl", "x509", "-in", alice[0], "-outform", "DER"], check=True, capture_output=True).stdout
    own = subprocess.run(["openssl", "base64", "-A"], input=own, check=True, capture_output=True).stdout.decode()
    for version in ["1.2", "1.3"]:
        for protocol in ["--http1.1", "--http2"]:
            options, what = [protocol, f"--tlsv{version}", "--tls-max", version], f"curl, TLS {version}, {protocol[2:]}"
            status, fields = curl(alice, "/secure", *options)
            check(f"{what}: a route that requires a certificate", status, 200)
            check(f"{what}: the subject", fields.get("x-client"), subject)
            check(f"{what}: the names", fields.get("x-names"), "URI:spiffe://test/alice,DNS:alice.test")
            check(f"{what}: Client-Cert", fields.get("client-cert"), f":{own}:")
            check(f"{what}: no certificate", curl(None, "/secure", *options)[0], 403)
            status, fields = curl(None, "/", *options, "-H", "Client-Cert: :AAAA:", "-H", "X-Client: CN=alice")
            check(f"{what}: no certificate, another route", (status, fields.get("x-client"), fields.get("client-cert")),
                  (200, None, None))
            check(f"{what}: a revoked certificate", "alert certificate revoked" in str(curl(mallory, "/", *options)[0]), True)
            check(f"{what}: a certificate of another authority", "alert unknown ca" in str(curl(stranger, "/", *options)[0]), True)
            check(f"{what}: another host than the connection is for",
                  curl(alice, "/secure", *options, "-H", "Host: other.localhost")[0], 421)

    asked = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-CAfile", ca],
                           input="", capture_output=True, text=True, timeout=30).stdout
    names = asked.partition("Acceptable client certificate CA names\n")[2].partition("\n")[0]
    check("OpenSSL is told which authorities may have issued its certificate", names, f"CN = {folder.name}")
