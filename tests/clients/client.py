"""Makes the requests of http_clients.py with httpx or aiohttp, and prints what it got as lines of JSON.

usage: client.py httpx | httpx2 | aiohttp
"""

import asyncio
import json
import os
import ssl
import sys

BASE, SIZE = os.environ["BASE"], int(os.environ["BODY"])
TOKEN = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
TRUST = ssl.create_default_context(cafile=os.environ.get("CA"))
REQUESTS = [
    ("GET", "/orders/1", TOKEN, 0),
    ("GET", "/orders/1", {}, 0),
    ("POST", "/orders/1", TOKEN, SIZE),
    ("GET", "/nothing", TOKEN, 0),
]


def report(status, version, text):
    print(json.dumps({"status": status, "version": version, "length": json.loads(text).get("length", 0)}))


def by_httpx(http2):
    import httpx

    with httpx.Client(http2=http2, verify=TRUST, trust_env=False) as client:
        for method, path, headers, size in REQUESTS:
            answer = client.request(method, BASE + path, headers=headers, content=bytes(size) if size else None)
            report(answer.status_code, answer.http_version.removeprefix("HTTP/"), answer.text)


async def by_aiohttp():
    import aiohttp

    async with aiohttp.ClientSession() as session:
        for method, path, headers, size in REQUESTS:
            body = bytes(size) if size else None
            async with session.request(method, BASE + path, headers=headers, data=body, ssl=TRUST) as answer:
                report(answer.status, f"{answer.version.major}.{answer.version.minor}", await answer.text())


if sys.argv[1] == "aiohttp":
    asyncio.run(by_aiohttp())
else:
    by_httpx(sys.argv[1] == "httpx2")
