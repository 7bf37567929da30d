"""The proxies of the comparison: for each, its configuration, its command, and which checks it makes.

One worker thread each. What a proxy can be told not to do (access logs, statistics), it is told.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import fixture
from fixture import AUDIENCE, ISSUER, SCOPE, Fixture, free_port

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Proxy:
    """A program that listens on `port`."""

    name: str
    port: int
    command: list[str]
    # Whether it verifies tokens, and so must refuse bad ones.
    checks: bool
    environment: dict[str, str] = field(default_factory=dict)
    # Whether it remembers tokens: then it is restarted for each run of tokens that must be unknown.
    remembers: bool = False
    cpus: str = "0"
    # Whether clients speak TLS with it.
    tls: bool = False
    process: subprocess.Popen | None = None
    output: Path | None = None

    def start(self, folder: Path) -> None:
        self.output = folder / f"{self.name}.log"
        log = self.output.open("wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", self.cpus, *self.command],
            stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **self.environment}, cwd=folder,
        )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{self.name} does not listen on port {self.port}; see {self.output}")

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def processes(self) -> list[int]:
        """The process and all its children."""
        found, parents = [self.process.pid], {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
        for process in found:
            found.extend(parents.get(process, []))
        return found

    def cpu_seconds(self) -> float:
        total = 0
        for process in self.processes():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def resident_kib(self) -> int:
        total = 0
        for process in self.processes():
            status = Path(f"/proc/{process}/status").read_text()
            total += int(status.split("VmRSS:")[1].split()[0])
        return total


def portcullis(given: Fixture, binary: Path, name: str = "portcullis", *, full: bool = False, workers: int = 1,
               growth: bool = False, limited: bool = False, tls: str = "") -> Proxy:
    """`full`: access log, a limit and CORS. `limited`: a limit by a header alone. `growth`: the same with many routes and issuers.
    `tls`: with "clients" or with "upstream"."""
    port = free_port()
    issuers = "".join(
        f"""
[issuers.i{number}]
issuer = "{ISSUER if number == 0 else f'https://login-{number}.example'}"
audiences = ["{AUDIENCE}"]
jwks_file = "{given.jwks}"
"""
        for number in range(100 if growth else 1)
    )
    more = "".join(
        f'[[routes]]\npath = "/service-{number}/*"\nupstream = "orders"\nscopes = ["{SCOPE}"]\n'
        for number in range(999 if growth else 0)
    )
    limits = '[limits.each]\nkey = "header:X-Key"\nrate = "1000000/s"\n' if growth or limited else ""
    route = ""
    server_tls, upstream_tls, server = "", "", f"http://127.0.0.1:{given.upstream}"
    if tls == "clients":
        server_tls = f'[server.tls]\ncertificates = [{{ cert = "{given.certificate}", key = "{given.certificate_key}" }}]\n'
    elif tls == "upstream":
        server, upstream_tls = f"https://localhost:{given.upstream_tls}", f'tls = {{ ca_file = "{given.ca}" }}\nprotocol = "http1"\n'
    if full:
        limits = '[limits.caller]\nkey = "subject"\nrate = "1000000/s"\n[cors.web]\norigins = ["https://shop.example"]\n'
        route = 'limits = ["caller"]\ncors = "web"\n'
    if growth or limited:
        route = 'limits = ["each"]\n'
    config = given.folder / f"{name}.toml"
    config.write_text(f"""
[server]
listen = "127.0.0.1:{port}"
workers = {workers}
max_connections = 20000
idle_timeout = "5m"
{server_tls}[admin]
listen = "127.0.0.1:{free_port()}"
{issuers}
[upstreams.orders]
servers = ["{server}"]
{upstream_tls}[identity.headers]
X-Identity-Subject = "subject"
X-Identity-Scopes = "scopes"
X-Identity-Client = "client"
{limits}
{more}
[[routes]]
name = "orders"
path = "/orders/*"
scopes = ["{SCOPE}"]
upstream = "orders"
{route}
[log]
level = "error"
access = {str(full).lower()}
""")
    return Proxy(name, port, [str(binary), "run", "-c", str(config)], checks=True, remembers=True,
                 cpus="0" if workers == 1 else "0,1", tls=tls == "clients")


def nginx(given: Fixture, *, tls: str = "") -> Proxy | None:
    """A plain proxy, without any check. `tls`: with "clients" or with "upstream"."""
    if not shutil.which("nginx"):
        return None
    name = f"nginx-tls-{tls}" if tls else "nginx"
    port, config = free_port(), given.folder / f"{name}.conf"
    listen, server, to, verification = f"127.0.0.1:{port}", f"127.0.0.1:{given.upstream}", "http", ""
    if tls == "clients":
        listen += f" ssl; {nginx_certificate(given)}"
    elif tls == "upstream":
        server, to = f"127.0.0.1:{given.upstream_tls}", "https"
        verification = f"proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate {given.ca};"
    config.write_text(nginx_text(given.folder / name, f"""
    upstream orders {{ server {server}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen {listen};
        location / {{
            proxy_pass {to}://orders;
            {verification}
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}"""))
    return Proxy(name, port, ["nginx", "-c", str(config)], checks=False, tls=tls == "clients")


def nginx_certificate(given: Fixture) -> str:
    return (f"ssl_certificate {given.certificate}; ssl_certificate_key {given.certificate_key}; ssl_protocols TLSv1.2 TLSv1.3;"
            " ssl_session_cache shared:tls:10m")


def upstream(given: Fixture) -> Proxy:
    """What stands behind all of them: nginx with a fixed answer, on the other core; and the key set, for those who fetch it."""
    if not shutil.which("nginx"):
        raise SystemExit("the comparison's upstream is nginx, which is not installed")
    config = given.folder / "upstream.conf"
    config.write_text(nginx_text(given.folder / "upstream", f"""
    server {{
        listen 127.0.0.1:{given.upstream} backlog=4096;
        listen 127.0.0.1:{given.upstream_tls} ssl backlog=4096; {nginx_certificate(given)};
        default_type application/json;
        location / {{ return 200 '{fixture.ANSWER}'; }}
        location = /orders/echo {{ default_type text/plain; return 200 $http_x_identity_subject; }}
        location = /jwks.json {{ alias {given.jwks}; }}
    }}"""))
    return Proxy("upstream", given.upstream, ["nginx", "-c", str(config)], checks=False, cpus="1")


def nginx_text(prefix: Path, http: str) -> str:
    prefix.mkdir(exist_ok=True)
    paths = "\n".join(
        f"    {kind}_temp_path {prefix}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""daemon off;
user root;
worker_processes 1;
pid {prefix}/pid;
error_log {prefix}/error.log error;
events {{ worker_connections 8192; }}
http {{
{paths}
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
{http}
}}
"""


def haproxy(given: Fixture, *, verify: bool, tls: bool = False) -> Proxy | None:
    """Without checks, with TLS for clients or not; or with the rules of its makers' own guide to JWT, in their order."""
    if not shutil.which("haproxy"):
        return None
    name = "haproxy-jwt" if verify else "haproxy-tls-clients" if tls else "haproxy"
    port, config = free_port(), given.folder / f"{name}.cfg"
    bind = f"127.0.0.1:{port}" + (f" ssl crt {given.certificate_and_key} alpn http/1.1" if tls else "")
    refused = "http-request return status 401 content-type application/json string '{\"code\":\"token_invalid\"}' hdr WWW-Authenticate Bearer"
    rules = f"""
    {refused} unless {{ req.hdr(authorization) -m found }}
    http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')
    http-request set-var(txn.iss) http_auth_bearer,jwt_payload_query('$.iss')
    http-request set-var(txn.aud) http_auth_bearer,jwt_payload_query('$.aud')
    http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')
    http-request set-var(txn.scope) http_auth_bearer,jwt_payload_query('$.scope')
    {refused} unless {{ var(txn.alg) -m str RS256 }}
    {refused} unless {{ var(txn.iss) -m str {ISSUER} }}
    {refused} unless {{ var(txn.aud) -m str {AUDIENCE} }}
    {refused} unless {{ http_auth_bearer,jwt_verify(txn.alg,"{given.public_key}") -m int 1 }}
    http-request set-var(txn.now) date()
    {refused} if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request deny deny_status 403 unless {{ var(txn.scope) -m sub {SCOPE} }}
    http-request set-header X-Identity-Subject %[http_auth_bearer,jwt_payload_query('$.sub')]
    http-request del-header Authorization
""" if verify else ""
    config.write_text(f"""global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 2s
    timeout client 300s
    timeout server 30s
    option forwardfor
    http-reuse always
frontend edge
    bind {bind}
    default_backend orders
{rules}
backend orders
    server one 127.0.0.1:{given.upstream} pool-max-conn 128
""")
    return Proxy(name, port, ["haproxy", "-db", "-f", str(config)], checks=verify, tls=tls)


def envoy(given: Fixture, installed: Path, *, verify: bool, cache: bool = False, tls: bool = False) -> Proxy | None:
    """Without checks, with TLS for clients or not; or with `jwt_authn`, with and without its token cache. The scope is not checked: that would be one more filter."""
    binary = installed / "python/bin/envoy"
    if not binary.exists():
        return None
    name = "envoy-jwt-cache" if cache else "envoy-jwt" if verify else "envoy-tls-clients" if tls else "envoy"
    port, config = free_port(), given.folder / f"{name}.json"
    type_of = "type.googleapis.com/envoy.extensions."
    router = {"name": "router", "typed_config": {"@type": type_of + "filters.http.router.v3.Router"}}
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"filename": str(given.jwks)},
        "claim_to_headers": [{"header_name": "x-identity-subject", "claim_name": "sub"}],
    }
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": 20000}
    authn = {
        "name": "jwt",
        "typed_config": {
            "@type": type_of + "filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"main": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "main"}}],
        },
    }
    manager = {
        "@type": type_of + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"],
                               "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "orders"}}]}],
        },
        "http_filters": [authn, router] if verify else [router],
    }
    address = lambda number: {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls:
        file = lambda path: {"filename": str(path)}
        pair = {"certificate_chain": file(given.certificate), "private_key": file(given.certificate_key)}
        context = {"alpn_protocols": ["http/1.1"], "tls_certificates": [pair],
                   "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}}
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": type_of + "transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": context}}
    config.write_text(json.dumps({
        "static_resources": {
            "listeners": [{"address": address(port), "filter_chains": [chain]}],
            "clusters": [{"name": "orders", "connect_timeout": "2s", "type": "STATIC",
                          "load_assignment": {"cluster_name": "orders", "endpoints": [
                              {"lb_endpoints": [{"endpoint": {"address": address(given.upstream)}}]}]}}],
        },
    }))
    command = [str(binary), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return Proxy(name, port, command, checks=verify, remembers=cache, tls=tls)


def oauth2_proxy(given: Fixture, installed: Path) -> Proxy | None:
    binary = installed / "go/oauth2-proxy"
    if not binary.exists():
        return None
    port = free_port()
    command = [
        str(binary), f"--http-address=127.0.0.1:{port}", f"--upstream=http://127.0.0.1:{given.upstream}/",
        "--provider=oidc", f"--oidc-issuer-url={ISSUER}", "--skip-oidc-discovery",
        f"--oidc-jwks-url=http://127.0.0.1:{given.upstream}/jwks.json",
        "--login-url=http://127.0.0.1/login", "--redeem-url=http://127.0.0.1/token",
        f"--client-id={AUDIENCE}", "--client-secret=unused", "--cookie-secret=0123456789abcdef0123456789abcdef",
        "--email-domain=*", "--insecure-oidc-allow-unverified-email", "--skip-jwt-bearer-tokens",
        "--api-route=^/", "--cookie-secure=false", "--request-logging=false", "--auth-logging=false",
        "--standard-logging=false",
    ]
    return Proxy("oauth2-proxy", port, command, checks=True, environment={"GOMAXPROCS": "1"})


def express(given: Fixture, installed: Path) -> Proxy | None:
    service = installed / "express/server.js"
    if not shutil.which("node") or not (installed / "express/node_modules").exists():
        return None
    port = free_port()
    return Proxy("express", port, ["node", str(service)], checks=True, environment={
        "PORT": str(port), "UPSTREAM": f"http://127.0.0.1:{given.upstream}", "ISSUER": ISSUER, "AUDIENCE": AUDIENCE,
        "SCOPE": SCOPE, "JWKS_URL": f"http://127.0.0.1:{given.upstream}/jwks.json", "NODE_ENV": "production",
    })


def fastapi(given: Fixture, installed: Path, here: Path) -> Proxy | None:
    uvicorn = installed / "python/bin/uvicorn"
    if not uvicorn.exists():
        return None
    port = free_port()
    command = [str(uvicorn), "app:app", "--app-dir", str(here / "fastapi"), "--host", "127.0.0.1", "--port", str(port),
               "--no-access-log", "--log-level", "error"]
    return Proxy("fastapi", port, command, checks=True, environment={
        "JWK": str(given.jwk), "ISSUER": ISSUER, "AUDIENCE": AUDIENCE, "SCOPE": SCOPE, "ANSWER": str(given.answer),
    })
