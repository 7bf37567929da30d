"""Checks the gateway between real clients and real services.

usage: check.py GATEWAY FOLDER [PART…]

GATEWAY is the program, FOLDER what install.sh made. `make test-clients` does both. The parts:

services  Java's HttpClient, Spring's ForwardedHeaderFilter, OpenTelemetry's SDK with its default sampler
http      curl, Go, Node and Python: HTTP/1.1, HTTP/2 over TLS and with prior knowledge
h2spec    the conformance tests of HTTP/2, over TLS and with prior knowledge
tls       what OpenSSL finds: versions, cipher suites, renegotiation, compression, resumption
mtls      client certificates of OpenSSL, with curl: who is accepted, what the service learns
cors      Chromium: what scripts of an allowed and of other origins can do

Exit code 1 if a check fails.
"""

import cors
import harness
import http_clients
import h2spec
import java_and_python
import mtls
import tls

harness.main(
    {
        "services": java_and_python.services,
        "http": http_clients.clients,
        "h2spec": h2spec.h2spec,
        "tls": tls.openssl,
        "mtls": mtls.clients,
        "cors": cors.browser,
    },
    __doc__,
)
