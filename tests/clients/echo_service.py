"""A service that answers with JSON: the method, the path, the fields and the length of the body that it received.

Prints its port, and runs until it is killed or its input ends.
"""

import http.server
import json
import sys
import threading


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = 0
        if self.headers.get("transfer-encoding"):
            while chunk := int(self.rfile.readline(), 16):
                length += len(self.rfile.read(chunk))
                self.rfile.readline()
            self.rfile.readline()
        else:
            length = len(self.rfile.read(int(self.headers.get("content-length", 0))))
        fields = [[name.lower(), value] for name, value in self.headers.items()]
        text = json.dumps({"method": self.command, "path": self.path, "fields": fields, "length": length}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """Clients that leave in the middle of a request are part of the checks."""


server = Server(("127.0.0.1", 0), Echo)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
