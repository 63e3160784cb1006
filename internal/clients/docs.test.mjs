// The page /docs of the quickstart, in a real browser.
import assert from "node:assert/strict";
import test from "node:test";
import { foreign, keep, launch, prefix, start } from "./harness.mjs";

async function open(t, url) {
  const { context, seen } = await launch(t);
  const page = await context.newPage();
  await page.goto(url + "/docs");
  await page.locator(".btn.authorize").first().waitFor();
  return { page, seen };
}

// authorize fills in the dialog, and returns it after the answer.
async function authorize(page, { username, password, client_id = "", client_secret = "", scopes = [] }) {
  await page.locator(".auth-wrapper .btn.authorize").click();
  const dialog = page.locator(".dialog-ux");
  await dialog.locator("#oauth_username").fill(username);
  await dialog.locator("#oauth_password").fill(password);
  await dialog.locator("#client_id_password").fill(client_id);
  await dialog.locator("#client_secret_password").fill(client_secret);
  for (const scope of scopes) await dialog.locator(`.scopes label:has-text("${scope}")`).first().click();
  const answer = page.waitForResponse((r) => r.url().endsWith("/token"));
  await dialog.locator("button.authorize").click();
  return { dialog, answer: await answer };
}

// call runs an operation by "Try it out", and returns its status.
async function call(page, id, path) {
  const operation = page.locator(`.opblock:has(.opblock-summary-path[data-path="${path}"])`).first();
  if (!(await operation.locator(".execute").isVisible())) await operation.locator(".opblock-summary-control").click();
  const answer = page.waitForResponse((r) => new URL(r.url()).pathname.endsWith(path));
  await operation.locator(".execute").click();
  await operation.locator(".live-responses-table td.response-col_status:not(.col_header)").waitFor();
  return (await answer).status();
}

for (const [name, client] of Object.entries({
  "no client": {},
  "a public client": { client_id: "webapp" },
  "a confidential client": { client_id: "backend", client_secret: "backend-secret" },
})) {
  test(`log in with ${name}, call, log out`, async (t) => {
    const { url } = await start(t, "quickstart");
    const { page, seen } = await open(t, url);
    assert.equal(await call(page, "readUser", "/users/me"), 401);

    const { dialog, answer } = await authorize(page, { username: "johndoe", password: "secret", scopes: ["me", "items"], ...client });
    assert.equal(answer.status(), 200);
    assert.equal((await answer.json()).scope.split(" ").sort().join(" "), "items me");
    await dialog.locator("text=Logout").waitFor();
    await keep(page, `docs-authorized-${name.replaceAll(" ", "-")}`);
    await dialog.locator(".close-modal").click();

    assert.equal(await call(page, "readUser", "/users/me"), 200);
    assert.match(await page.locator(".live-responses-table").first().innerText(), /"username": "johndoe"/);
    assert.equal(await call(page, "readItems", "/users/me/items"), 200);
    await keep(page, `docs-called-${name.replaceAll(" ", "-")}`);

    await page.locator(".auth-wrapper .btn.authorize").click();
    await dialog.locator("text=Logout").click();
    await dialog.locator(".close-modal").click();
    assert.equal(await call(page, "readUser", "/users/me"), 401);

    assert.deepEqual(foreign(seen, url), []);
    assert.deepEqual(seen.violations, []);
  });
}

test("a wrong password is shown", async (t) => {
  const { url } = await start(t, "quickstart");
  const { page, seen } = await open(t, url);
  const { dialog, answer } = await authorize(page, { username: "johndoe", password: "wrong" });
  assert.equal(answer.status(), 400);
  const shown = dialog.locator(".errors");
  await shown.first().waitFor();
  await keep(page, "docs-wrong-password");
  assert.match((await shown.allInnerTexts()).join(" "), /invalid_grant, description: The credentials are wrong/);
  await dialog.locator(".close-modal").click();
  assert.equal(await call(page, "readUser", "/users/me"), 401);
  assert.deepEqual(foreign(seen, url), []);
  assert.deepEqual(seen.violations, []);
});

test("a wrong client secret is shown, and the browser opens no window of its own", async (t) => {
  const { url } = await start(t, "quickstart");
  const { page } = await open(t, url);
  const { dialog, answer } = await authorize(page, { username: "johndoe", password: "secret", client_id: "backend", client_secret: "wrong" });
  assert.equal(answer.status(), 401);
  await dialog.locator(".errors").first().waitFor();
  assert.match((await dialog.locator(".errors").allInnerTexts()).join(" "), /invalid_client/);
});

test("behind a prefix", async (t) => {
  const url = await prefix(t, (await start(t, "quickstart")).url);
  const { page, seen } = await open(t, url);
  const { dialog, answer } = await authorize(page, { username: "johndoe", password: "secret" });
  assert.equal(answer.url(), url + "/token");
  assert.equal(answer.status(), 200);
  await dialog.locator(".close-modal").click();
  assert.equal(await call(page, "readUser", "/users/me"), 200);
  assert.deepEqual(foreign(seen, url), []);
  assert.deepEqual(seen.violations, []);
});
