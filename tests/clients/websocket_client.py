"""Opens a WebSocket with and without a token, and prints what comes back."""

import os
import ssl

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

URL = os.environ["URL"]
TRUST = ssl.create_default_context(cafile=os.environ["CA"]) if URL.startswith("wss") else None
TOKEN = {"Authorization": f"Bearer {os.environ['TOKEN']}"}

try:
    connect(URL, ssl=TRUST, proxy=None)
except InvalidStatus as error:
    print(f"without a token: {error.response.status_code}")
with connect(URL, ssl=TRUST, additional_headers=TOKEN, max_size=None, proxy=None) as socket:
    socket.send("hello")
    print(socket.recv())
    socket.send(bytes(1024 * 1024))
    print(f"{len(socket.recv())} bytes")
