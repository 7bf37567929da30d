// Lets scripts of several origins in Chromium ask the gateway, and prints as JSON what they saw.
//
// usage: cors.mjs NODE_FOLDER PAGE_PORT GATEWAY_URL TOKEN

import { createRequire } from "node:module";
import path from "node:path";

const [folder, pagePort, gateway, token] = process.argv.slice(2);
const { chromium } = createRequire(path.join(folder, "package.json"))("playwright-core");

// Chromium's sandbox does not work for root. The pages are ours.
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--host-resolver-rules=MAP * 127.0.0.1", "--ignore-certificate-errors"],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });

// Runs in a page: fetches, and returns the status and one member of the body, or the name of the error.
async function ask({ url, options, member }) {
  try {
    const response = await fetch(url, { credentials: "include", ...options });
    return { status: response.status, [member]: (await response.json())[member] };
  } catch (error) {
    return error.name;
  }
}

async function pageOf(name) {
  const page = await context.newPage();
  await page.goto(`http://${name}:${pagePort}/`);
  return page;
}

const withToken = { headers: { Authorization: `Bearer ${token}` } };
const order = { url: `${gateway}/orders/1`, options: withToken, member: "method" };
const seen = {};

const shop = await pageOf("shop.example");
const events = await context.newCDPSession(shop);
await events.send("Network.enable");
events.on("Network.responseReceived", ({ response }) => {
  if (response.url.startsWith(gateway) && response.status === 200) seen.protocol = response.protocol;
});
seen.allowed = await shop.evaluate(ask, order);
seen.refused = await shop.evaluate(ask, { ...order, options: {}, member: "code" });
seen.put = await shop.evaluate(ask, { ...order, options: { ...withToken, method: "PUT" } });
seen.delete = await shop.evaluate(ask, { ...order, options: { ...withToken, method: "DELETE" } });
seen.silent = await shop.evaluate(ask, { ...order, url: `${gateway}/silent` });
for (let i = 0; i < 3; i += 1) await shop.evaluate(ask, { ...order, url: `${gateway}/orders/cached` });

const others = { other: "other.example", suffix: "shop.example.evil.test", prefix: "evilshop.example" };
for (const [name, host] of Object.entries(others)) {
  const page = await pageOf(host);
  seen[name] = await page.evaluate(ask, order);
  await page.evaluate(ask, { ...order, options: { ...withToken, method: "PUT" } });
}

// The script of a sandboxed frame has the origin `null`.
const frame = await pageOf("shop.example");
seen.null = await frame.evaluate(
  ({ ask, order }) =>
    new Promise((resolve) => {
      addEventListener("message", (event) => resolve(event.data), { once: true });
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      frame.srcdoc = `<script>(${ask})(${JSON.stringify(order)}).then((seen) => parent.postMessage(seen, "*"))</script>`;
      document.body.append(frame);
    }),
  { ask: ask.toString(), order },
);

await browser.close();
console.log(JSON.stringify(seen));
