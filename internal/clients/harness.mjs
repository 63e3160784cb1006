// The programs under test, and a real browser. BIN is the folder of the built examples.
import { spawn } from "node:child_process";
import { createServer, request } from "node:http";
import { createInterface } from "node:readline";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

// start runs a program on a free port, and ends it with the test.
export async function start(t, program, ...args) {
  const child = spawn(`${process.env.BIN}/${program}`, ["-addr=127.0.0.1:0", "-db=:memory:", "-hash=m=64,t=1,p=1", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill());
  let log = "";
  child.stderr.on("data", (chunk) => (log += chunk));
  const lines = createInterface({ input: child.stdout });
  const url = await new Promise((found, failed) => {
    lines.on("line", (line) => line.startsWith("listening on ") && found(line.slice("listening on ".length)));
    child.on("exit", (status) => failed(new Error(`${program} ended with status ${status}: ${log}`)));
  });
  return { url, log: () => log };
}

// launch opens a browser with one window, and collects what a page must not do: requests to
// other origins, and violations of its policy.
export async function launch(t) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  t.after(() => browser.close());
  const context = await browser.newContext({ viewport: { width: 1100, height: 1000 } });
  const seen = { requests: [], violations: [], errors: [] };
  context.on("request", (r) => seen.requests.push(r.url()));
  context.on("console", (m) => m.type() === "error" && (/Content Security Policy/i.test(m.text()) ? seen.violations : seen.errors).push(m.text()));
  context.on("weberror", (e) => seen.errors.push(String(e.error())));
  return { context, seen };
}

// foreign returns the requests of a window to other origins.
export const foreign = (seen, url) => seen.requests.filter((r) => !r.startsWith(url + "/") && !r.startsWith("data:") && !r.startsWith("blob:"));

// prefix is a reverse proxy that serves a program below /prefix, and removes the prefix.
export async function prefix(t, target) {
  const { hostname, port } = new URL(target);
  const server = createServer((from, to) => {
    if (!from.url.startsWith("/prefix/")) return to.writeHead(404).end();
    const onward = request({ hostname, port, path: from.url.slice("/prefix".length), method: from.method, headers: from.headers }, (answer) => {
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
    });
    onward.on("error", () => to.destroy());
    from.pipe(onward);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}/prefix`;
}

// keep saves a picture of a page where CI keeps files.
export async function keep(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/${name}.png` });
}
