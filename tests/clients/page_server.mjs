// Serves an empty page for every name. Prints its port, and runs until it is killed or its input ends.

import http from "node:http";

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/html");
  response.end("<!doctype html><title>page</title>");
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("close", () => process.exit()).resume();
