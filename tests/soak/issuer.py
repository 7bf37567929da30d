"""An issuer with discovery, whose keys change while it runs."""

import http.server
import json
import threading
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec


class Issuer:
    """Serves discovery and keys on a port of its own, and signs tokens.

    A new key is published before it signs, and an old one stays published for as long as its tokens are in use, as
    providers do.
    """

    def __init__(self):
        self.keys, self.lock, self.tokens = {}, threading.Lock(), {}
        # The identifier of the key that signs.
        self.signs = None
        self.rotate()
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                base = f"http://127.0.0.1:{issuer.port}"
                if self.path == "/keys":
                    document = {"keys": issuer.public()}
                else:
                    document = {"issuer": base, "jwks_uri": f"{base}/keys"}
                text = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def rotate(self):
        """Publishes a new key, and signs with it a little later. The three newest keys stay published."""
        kid = str(int(self.signs or 0) + 1)
        with self.lock:
            self.keys[kid] = ec.generate_private_key(ec.SECP256R1())
        if self.signs:
            # Longer than `jwks_cooldown`: the gateway may have fetched the keys just before.
            time.sleep(3)
        with self.lock:
            self.signs = kid
            while len(self.keys) > 3:
                del self.keys[next(iter(self.keys))]
            self.tokens.clear()

    def public(self):
        with self.lock:
            return [
                json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig", "alg": "ES256"}
                for kid, key in self.keys.items()
            ]

    def token(self, subject, kind):
        """A token of the key that signs: good for ten minutes, or expired."""
        with self.lock:
            if token := self.tokens.get((subject, kind)):
                return token
            kid, key = self.signs, self.keys[self.signs]
            now = int(time.time())
            expiry = now - 3600 if kind == "expired" else now + 600
            claims = {"iss": f"http://127.0.0.1:{self.port}", "aud": "api", "sub": subject, "scope": "orders:read"}
            token = jwt.encode(claims | {"iat": now - 7200, "exp": expiry}, key, algorithm="ES256", headers={"kid": kid})
            self.tokens[(subject, kind)] = token
            return token
