"""Runs the services of deploy/compose/compose.yaml without containers, and sends the requests of its README.

usage: compose.py GATEWAY KEYCLOAK PYTHON    the executable, Keycloak's folder, and a virtual environment with the
                                             service's requirements; scripts/test-deploy.sh installs them

Keycloak imports the realm of the folder, the FastAPI service runs with its own requirements, and the gateway
with its own gateway.toml. Only ports and host names differ, because here all of them share one machine.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"
# Seconds that a service may take to start. Keycloak takes most of a minute on two busy cores.
START_LIMIT = 240


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def request(url: str, *, method: str = "GET", headers: dict | None = None, body: bytes | None = None) -> tuple[int, dict]:
    """The status and the JSON of a response."""
    message = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(message, timeout=10) as response:
            return response.status, json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def wait_for(name: str, url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError, json.JSONDecodeError):
            if request(url)[0] == 200:
                print(f"{name} is ready")
                return
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{name} does not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.2)


def start(stack: contextlib.ExitStack, log: Path, command: list[str], **options) -> subprocess.Popen:
    process = subprocess.Popen(
        command, stdout=stack.enter_context(log.open("w")), stderr=subprocess.STDOUT, start_new_session=True, **options
    )

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            # The session, because Keycloak's script starts Java as a child.
            os.killpg(process.pid, 15)
        process.wait(30)

    stack.callback(stop)
    return process


def token(keycloak: str, scopes: str, **form: str) -> str:
    form |= {"scope": f"openid {scopes}"}
    status, answer = request(
        f"{keycloak}/realms/shop/protocol/openid-connect/token", method="POST", body=urllib.parse.urlencode(form).encode()
    )
    assert status == 200, answer
    return answer["access_token"]


def main() -> None:
    gateway, keycloak_folder, python = (Path(argument).resolve() for argument in sys.argv[1:4])
    keycloak_port, management, service, data, admin = free_ports(5)
    keycloak = f"http://localhost:{keycloak_port}"
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = (COMPOSE / "gateway" / "gateway.toml").read_text()
        for pattern, replacement in [
            (r'"0\.0\.0\.0:8080"', f'"127.0.0.1:{data}"'),
            (r'"0\.0\.0\.0:9090"', f'"127.0.0.1:{admin}"'),
            (r"http://localhost:8081/", f"{keycloak}/"),
        ]:
            config, count = re.subn(pattern, replacement, config)
            assert count == 1, pattern
        (work / "gateway.toml").write_text(config)
        imports = keycloak_folder / "data" / "import"
        imports.mkdir(parents=True, exist_ok=True)
        (imports / "shop-realm.json").write_text((COMPOSE / "keycloak" / "shop-realm.json").read_text())
        process = start(
            stack,
            work / "keycloak.log",
            [
                str(keycloak_folder / "bin" / "kc.sh"),
                "start-dev",
                "--import-realm",
                "--db=dev-mem",
                f"--http-port={keycloak_port}",
                "--http-host=127.0.0.1",
                f"--http-management-port={management}",
            ],
            env=os.environ | {"KC_HOSTNAME": keycloak, "KC_HEALTH_ENABLED": "true"},
        )
        uvicorn = [str(python / "bin" / "uvicorn"), "app:app", "--host", "127.0.0.1", "--port", str(service)]
        orders = start(stack, work / "orders.log", uvicorn, cwd=COMPOSE / "orders")
        wait_for("orders", f"http://127.0.0.1:{service}/healthz", orders, work / "orders.log")
        wait_for("keycloak", f"http://127.0.0.1:{management}/health/ready", process, work / "keycloak.log")
        environment = os.environ | {"KEYCLOAK": f"127.0.0.1:{keycloak_port}", "ORDERS": f"127.0.0.1:{service}"}
        run = [str(gateway), "run", "--config", str(work / "gateway.toml")]
        portcullis = start(stack, work / "gateway.log", run, env=environment)
        wait_for("gateway", f"http://127.0.0.1:{admin}/readyz", portcullis, work / "gateway.log")

        user = {"client_id": "shop-cli", "grant_type": "password"}
        alice = token(keycloak, "orders:read orders:write", **user, username="alice", password="alice")
        bob = token(keycloak, "orders:read orders:write", **user, username="bob", password="bob")
        reader = token(keycloak, "orders:read", **user, username="bob", password="bob")
        job = {"client_id": "report-job", "client_secret": "report-job-secret", "grant_type": "client_credentials"}
        report = token(keycloak, "orders:read", **job)
        orders_url = f"http://127.0.0.1:{data}/orders"
        order = b'{"item": "tea"}'
        for name, method, bearer, body, expected in [
            ("without a token", "GET", None, None, (401, "credentials_missing")),
            ("with another issuer's token", "GET", "eyJhbGciOiJub25lIn0.e30.", None, (401, "token_invalid")),
            ("a scope is missing", "POST", reader, order, (403, "scope_insufficient")),
            ("a role is missing", "POST", bob, order, (403, "access_denied")),
            ("alice places an order", "POST", alice, order, (201, None)),
            ("bob reads", "GET", bob, None, (200, None)),
            ("a program reads", "GET", report, None, (200, None)),
        ]:
            headers = {"Content-Type": "application/json", "X-Identity-Subject": "forged"}
            if bearer:
                headers["Authorization"] = f"Bearer {bearer}"
            status, answer = request(orders_url, method=method, headers=headers, body=body)
            assert (status, answer.get("code")) == expected, f"{name}: {status} {answer}"
            assert "forged" not in json.dumps(answer), f"{name}: {answer}"
            print(f"{name}: {status} {json.dumps(answer)[:100]}")
        health = subprocess.run([str(gateway), "health", f"http://127.0.0.1:{admin}/readyz"], check=False)
        assert health.returncode == 0, "the image's HEALTHCHECK"


if __name__ == "__main__":
    main()
