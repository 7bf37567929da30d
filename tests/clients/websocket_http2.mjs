// Opens a WebSocket over HTTP/2 (RFC 8441) with and without a token, and prints what comes back.

import http2 from "node:http2";

const { URL: url, TOKEN, PATHNAME } = process.env;
const session = http2.connect(url);

function open(headers) {
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": PATHNAME,
    "sec-websocket-version": "13",
    ...headers,
  });
  return new Promise((resolve, reject) => {
    stream.on("response", (fields) => resolve([fields[":status"], stream]));
    stream.on("error", reject);
  });
}

// A frame from a client, masked with zeros (RFC 6455 §5.2).
function frame(opcode, payload) {
  const head = Buffer.alloc(payload.length < 126 ? 6 : 14);
  head[0] = 0x80 | opcode;
  if (payload.length < 126) {
    head[1] = 0x80 | payload.length;
  } else {
    head[1] = 0x80 | 127;
    head.writeBigUInt64BE(BigInt(payload.length), 2);
  }
  return Buffer.concat([head, payload]);
}

// The payload of the next frame from the server.
async function next(bytes) {
  const [, second] = await bytes(2);
  const length = second < 126 ? second : second === 126 ? (await bytes(2)).readUInt16BE() : Number((await bytes(8)).readBigUInt64BE());
  return bytes(length);
}

function reader(stream) {
  const parts = stream[Symbol.asyncIterator]();
  let received = Buffer.alloc(0);
  return async (count) => {
    while (received.length < count) {
      const { value, done } = await parts.next();
      if (done) throw new Error("the stream has ended");
      received = Buffer.concat([received, value]);
    }
    const wanted = received.subarray(0, count);
    received = received.subarray(count);
    return wanted;
  };
}

const settings = await new Promise((resolve) => session.once("remoteSettings", resolve));
console.log(`offered: ${settings.enableConnectProtocol}`);
const [refused] = await open({});
console.log(`without a token: ${refused}`);
const [status, stream] = await open({ authorization: `Bearer ${TOKEN}` });
console.log(status);
const bytes = reader(stream);
stream.write(frame(1, Buffer.from("hello")));
console.log((await next(bytes)).toString());
stream.write(frame(2, Buffer.alloc(1024 * 1024)));
console.log(`${(await next(bytes)).length} bytes`);
// The server answers the closing frame with one of its own and closes; so does the gateway then.
stream.write(frame(8, Buffer.from([0x03, 0xe8])));
console.log(`closed: ${(await next(bytes)).readUInt16BE()}`);
stream.end();
session.close();
