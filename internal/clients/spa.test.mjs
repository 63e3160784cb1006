// The single-page app of examples/spa, in a real browser. Without a grace period a second use
// of a refresh token would end the session.
import assert from "node:assert/strict";
import test from "node:test";
import { foreign, keep, launch, start } from "./harness.mjs";

async function open(t, ...args) {
  const { url } = await start(t, "spa", ...args);
  const { context, seen } = await launch(t);
  const refreshes = [];
  context.on("request", (r) => r.postData()?.includes("grant_type=refresh_token") && refreshes.push(r));
  const page = await context.newPage();
  await page.goto(url + "/");
  return { url, context, seen, page, refreshes };
}

async function login(page, password = "secret") {
  await page.locator("[name=username]").fill("johndoe");
  await page.locator("[name=password]").fill(password);
  await page.locator("#login button").click();
}
const message = (page, text) => page.locator("#message", { hasText: text }).waitFor();
const load = (page) => page.locator("#load").click();
// stored reads the session of the page, and changes it.
const stored = (page, change) =>
  page.evaluate(async (change) => {
    const open = indexedDB.open("session", 1);
    const database = await new Promise((resolve) => (open.onsuccess = () => resolve(open.result)));
    const tokens = database.transaction("tokens", "readwrite").objectStore("tokens");
    const read = tokens.get("session");
    const session = await new Promise((resolve) => (read.onsuccess = () => resolve(read.result)));
    if (change) tokens.put({ ...session, ...change }, "session");
    await new Promise((resolve) => (tokens.transaction.oncomplete = resolve));
    database.close();
    return session;
  }, change);
// expire makes the server refuse the access token, as after its expiry.
const expire = (page) => stored(page, { access_token: "expired" });

test("login, ten calls across an expiry with one refresh, reload, logout", async (t) => {
  const { url, page, seen, refreshes } = await open(t, "-refresh-grace=0");
  await login(page, "wrong");
  await message(page, "The name or the password is wrong.");
  await login(page);
  await message(page, "Logged in.");
  await load(page);
  await message(page, "10 answers: 1 session");
  assert.equal(refreshes.length, 0);

  await expire(page);
  await load(page);
  await message(page, "10 answers: 1 session");
  assert.equal(refreshes.length, 1);
  await keep(page, "spa");

  await page.reload();
  await expire(page);
  await load(page);
  await message(page, "10 answers: 1 session");
  assert.equal(refreshes.length, 2);

  const session = await stored(page);
  await page.locator("#logout").click();
  await message(page, "Logged out.");
  assert.ok(await page.locator("#login").isVisible());
  assert.equal(await stored(page), undefined);
  const used = await fetch(url + "/sessions", { headers: { Authorization: `Bearer ${session.access_token}` } });
  assert.equal(used.status, 401, "the session has ended at the server, too");
  assert.deepEqual(foreign(seen, url), []);
  assert.deepEqual(seen.violations, []);
});

test("two tabs refresh once, and both see a logout", async (t) => {
  const { url, context, page, refreshes } = await open(t, "-refresh-grace=0");
  await login(page);
  await message(page, "Logged in.");
  const other = await context.newPage();
  await other.goto(url + "/");
  for (let round = 1; round <= 8; round++) {
    await expire(page);
    await Promise.all([load(page), load(other)]);
    await Promise.all([message(page, "10 answers: 1 session"), message(other, "10 answers: 1 session")]);
    assert.equal(refreshes.length, round);
  }
  await other.locator("#logout").click();
  await page.locator("#login").waitFor();
});

test("the network is cut in the middle of a refresh: the answer is lost, the login is not", async (t) => {
  const { page, refreshes } = await open(t);
  await login(page);
  await message(page, "Logged in.");
  await expire(page);
  let cuts = 0;
  await page.route("**/token", async (route) => {
    await route.fetch(); // the server has rotated
    cuts++;
    await route.abort("connectionreset");
  });
  await load(page);
  await message(page, "Please try again.");
  assert.equal(cuts, 1, "ten calls share one refresh, and its failure");
  const spent = refreshes.at(-1).postData();
  await page.unrouteAll({ behavior: "wait" });
  await load(page);
  await message(page, "10 answers: 1 session");
  assert.equal(refreshes.at(-1).postData(), spent, "the same token was sent again");
  await expire(page);
  await load(page);
  await message(page, "10 answers: 1 session");
  assert.notEqual(refreshes.at(-1).postData(), spent);
});

test("logout without a network, and with a server that fails: the session ends later", async (t) => {
  const { url, context, page } = await open(t);
  await login(page);
  await message(page, "Logged in.");
  const session = await stored(page);
  const status = async () => (await fetch(url + "/sessions", { headers: { Authorization: `Bearer ${session.access_token}` } })).status;
  await page.route("**/revoke", (route) => route.fulfill({ status: 503, body: "{}" }));
  await page.locator("#logout").click();
  await message(page, "Logged out here.");
  assert.equal(await stored(page), undefined);
  assert.equal(await status(), 200);
  await page.unrouteAll({ behavior: "wait" });
  const revoked = page.waitForResponse((r) => r.url().endsWith("/revoke"));
  await page.reload();
  assert.equal((await revoked).status(), 200);
  assert.equal(await status(), 401);
});

test("a login over a login ends the one before", async (t) => {
  const { url, page } = await open(t);
  await login(page);
  await message(page, "Logged in.");
  const before = await stored(page);
  await page.evaluate(() => (document.getElementById("login").hidden = false));
  await login(page);
  await message(page, "Logged in.");
  await load(page);
  await message(page, "10 answers: 1 session");
  const status = (await fetch(url + "/sessions", { headers: { Authorization: `Bearer ${before.access_token}` } })).status;
  assert.equal(status, 401);
});

test("two tabs, and a refresh that takes its time: the other tab waits for the lock", async (t) => {
  const { url, context, page, refreshes } = await open(t, "-refresh-grace=0");
  await login(page);
  await message(page, "Logged in.");
  const other = await context.newPage();
  await other.goto(url + "/");
  await expire(page);
  let release;
  const both = new Promise((resolve) => (release = resolve));
  await context.route("**/token", async (route) => (await both, route.continue()));
  let refused = 0;
  context.on("response", (r) => r.status() === 401 && ++refused === 20 && setTimeout(release, 200)); // both tabs want to refresh
  await Promise.all([load(page), load(other)]);
  await Promise.all([message(page, "10 answers: 1 session"), message(other, "10 answers: 1 session")]);
  assert.equal(refreshes.length, 1);
});

test("no network at all: the tokens stay", async (t) => {
  const { context, page } = await open(t, "-refresh-grace=0");
  await login(page);
  await message(page, "Logged in.");
  await expire(page);
  await context.setOffline(true);
  await load(page);
  await message(page, "Please try again.");
  await context.setOffline(false);
  await load(page);
  await message(page, "10 answers: 1 session");
});

test("a session that has ended elsewhere shows the login", async (t) => {
  const { url, page } = await open(t);
  await login(page);
  await message(page, "Logged in.");
  const session = await stored(page);
  await fetch(url + "/revoke", { method: "POST", body: new URLSearchParams({ token: session.refresh_token }) });
  await load(page);
  await message(page, "Please log in again.");
  assert.ok(await page.locator("#login").isVisible());
});
