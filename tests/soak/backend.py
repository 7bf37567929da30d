"""A backend that answers with the path and the caller that it was told. Listens on the port that its argument says."""

import http.server
import json
import sys


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        if self.headers.get("transfer-encoding"):
            while chunk := int(self.rfile.readline(), 16):
                self.rfile.read(chunk + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("content-length", 0)))
        text = json.dumps({"path": self.path, "subject": self.headers.get("x-identity-subject")}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", int(sys.argv[1])), Backend)
print("ready", flush=True)
server.serve_forever()
