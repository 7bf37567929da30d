// Makes the requests of http_clients.py with Node's fetch or http2, and prints what it got as lines of JSON.

import http2 from "node:http2";

const { BASE, TOKEN, BODY, PROTOCOL } = process.env;
const requests = [
  ["GET", "/orders/1", true, 0],
  ["GET", "/orders/1", false, 0],
  ["POST", "/orders/1", true, Number(BODY)],
  ["GET", "/nothing", true, 0],
];

async function byFetch(method, path, hasToken, size) {
  const headers = hasToken ? { authorization: `Bearer ${TOKEN}` } : {};
  const body = size ? Buffer.alloc(size) : undefined;
  const response = await fetch(BASE + path, { method, headers, body });
  return [response.status, "1.1", await response.text()];
}

const session = PROTOCOL === "fetch" ? null : http2.connect(BASE);

function byHttp2(method, path, hasToken, size) {
  const headers = { ":method": method, ":path": path };
  if (hasToken) headers.authorization = `Bearer ${TOKEN}`;
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: size === 0 });
    let status;
    const parts = [];
    stream.on("response", (fields) => (status = fields[":status"]));
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => resolve([status, "2", Buffer.concat(parts).toString()]));
    stream.on("error", reject);
    if (size) stream.end(Buffer.alloc(size));
  });
}

for (const request of requests) {
  const [status, version, text] = await (session ? byHttp2 : byFetch)(...request);
  console.log(JSON.stringify({ status, version, length: JSON.parse(text).length ?? 0 }));
}
session?.close();
