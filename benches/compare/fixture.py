"""What all of the comparison's proxies are given: one key pair, tokens, an upstream. Made once and kept in the working folder."""

import base64
import json
import os
import secrets
import socket
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ISSUER = "https://login.example/realms/shop"
AUDIENCE = "orders-api"
SCOPE = "orders:read"
KID = "2026-11"
# 120 bytes, as the upstream answers them.
ANSWER = json.dumps({"id": 4711, "status": "shipped", "items": [{"sku": "A-17", "count": 2}], "note": ""})
ANSWER += " " * (120 - len(ANSWER))

DAY = 24 * 3600


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(number: int, now: int, *, expired: bool) -> dict:
    """About what Keycloak puts into an access token: with RS256, some 900 bytes."""
    issued = now - 2 * DAY if expired else now - 60
    name = f"user-{number:06}"
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": f"8f0c1b1e-6a54-4d5e-9d2b-{number:012x}",
        "exp": issued + DAY,
        "iat": issued,
        "jti": secrets.token_hex(8),
        "azp": "shop-web",
        "sid": secrets.token_hex(8),
        "scope": f"openid profile {SCOPE}",
        "realm_access": {"roles": ["customer"]},
        "email": f"{name}@shop.example",
        "preferred_username": name,
    }


def _sign_all(job: tuple[Path, int, int, int, bool]) -> list[str]:
    import jwt

    key_file, first, count, now, expired = job
    key = key_file.read_text()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    loaded = load_pem_private_key(key.encode(), None)
    return [
        jwt.encode(claims(number, now, expired=expired), loaded, algorithm="RS256", headers={"kid": KID})
        for number in range(first, first + count)
    ]


class Fixture:
    """Files in `folder`; `upstream` is a port where nginx answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private_key = folder / "key.pem"
        self.public_key = folder / "public.pem"
        self.jwks = folder / "jwks.json"
        self.jwk = folder / "jwk.json"
        self.answer = folder / "answer.json"
        self.upstream = free_port()
        self.upstream_tls = free_port()
        self.ca = folder / "ca.pem"
        self.certificate = folder / "cert.pem"
        self.certificate_key = folder / "cert.key"
        # HAProxy reads both from one file.
        self.certificate_and_key = folder / "cert-and-key.pem"

    def prepare(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        self.answer.write_text(ANSWER)
        self._certificate()
        made = self.folder / "tokens.json"
        # Good for the day: signing 62,000 takes a minute.
        if made.exists() and time.time() < json.loads(made.read_text())["until"]:
            return
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM
        self.private_key.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        public = key.public_key()
        self.public_key.write_bytes(public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        numbers = public.public_numbers()
        jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID}
        for member, value in (("n", numbers.n), ("e", numbers.e)):
            jwk[member] = base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
        self.jwk.write_text(json.dumps(jwk))
        self.jwks.write_text(json.dumps({"keys": [jwk]}))
        now = int(time.time())
        self._tokens("one", 0, 1, now)
        self._tokens("known", 0, 2000, now)
        self._tokens("new", 2000, 60000, now)
        self._tokens("expired", 0, 1, now, expired=True)
        good = self.tokens("one").read_text().strip()
        head, _, signature = good.rpartition(".")
        self.tokens("forged").write_text(f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}\n")
        self.tokens("none").write_text("\n")
        made.write_text(json.dumps({"until": now + DAY - 2 * 3600}))

    def _certificate(self) -> None:
        """A certificate for localhost, and the authority that has signed it. All proxies present the same one."""
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        ca_key = self.folder / "ca.key"

        def openssl(*options: object) -> None:
            subprocess.run(["openssl", "req", "-x509", *new, *options], check=True, capture_output=True)

        openssl("-keyout", ca_key, "-out", self.ca, "-subj", "/CN=compare", "-addext", "keyUsage=critical,keyCertSign")
        openssl("-keyout", self.certificate_key, "-out", self.certificate, "-subj", "/CN=localhost", "-CA", self.ca, "-CAkey", ca_key,
                "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.certificate_and_key.write_text(self.certificate.read_text() + self.certificate_key.read_text())

    def tokens(self, name: str) -> Path:
        """One token a line."""
        return self.folder / f"{name}.tokens"

    def first(self, name: str) -> str:
        with self.tokens(name).open() as lines:
            return lines.readline().strip()

    def _tokens(self, name: str, first: int, count: int, now: int, *, expired: bool = False) -> None:
        step = max(1, min(count, 2000))
        jobs = [
            (self.private_key, start, min(step, first + count - start), now, expired)
            for start in range(first, first + count, step)
        ]
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            self.tokens(name).write_text("\n".join(token for part in pool.map(_sign_all, jobs) for token in part) + "\n")


def openssl_verify_us() -> float:
    """CPU time of one RSA-2048 verification by `openssl speed`, in microseconds."""
    text = subprocess.run(
        ["taskset", "-c", "0", "openssl", "speed", "-seconds", "2", "-mr", "rsa2048"],
        check=True, capture_output=True, text=True,
    ).stdout
    # +F2:0:2048:SIGNATURES_PER_SECOND:VERIFICATIONS_PER_SECOND
    line = next(line for line in text.splitlines() if line.startswith("+F2:"))
    return 1e6 / float(line.split(":")[4])
