"""A service that OpenTelemetry's SDK traces with its default sampler.

Answers with JSON: whether the span of the request is sampled, its trace id, and the id of its parent. Prints its port,
and runs until it is killed or its input ends.
"""

import http.server
import json
import sys
import threading

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# The default sampler is ParentBased(root=ALWAYS_ON): a span without a parent is sampled.
tracer = TracerProvider().get_tracer(__name__)


class Traced(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        context = TraceContextTextMapPropagator().extract(dict(self.headers.items()))
        span = tracer.start_span("request", context=context)
        state = span.get_span_context()
        seen = {
            "sampled": state.trace_flags.sampled,
            "trace": trace.format_trace_id(state.trace_id),
            "parent": trace.format_span_id(span.parent.span_id) if getattr(span, "parent", None) else None,
        }
        span.end()
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Traced)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
