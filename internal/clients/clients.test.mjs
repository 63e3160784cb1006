// OAuth clients of Node.js, of Python and of the shell, against the quickstart: login, call,
// refresh, wrong password, revoke; as no client, as a public client and as a confidential one.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import test from "node:test";
import { promisify } from "node:util";
import * as oauth from "oauth4webapi";
import * as oidc from "openid-client";
import { ResourceOwnerPassword } from "simple-oauth2";
import { start } from "./harness.mjs";

const run = promisify(execFile);
const user = { username: "johndoe", password: "secret", scope: "me items" };
const wrong = { ...user, password: "wrong" };

const status = async (url, token) => (await fetch(url + "/users/me/items", { headers: { Authorization: `Bearer ${token}` } })).status;

for (const [name, id, authentication] of [
  ["public", "webapp", oauth.None()],
  ["confidential, Basic", "backend", oauth.ClientSecretBasic("backend-secret")],
  ["confidential, form", "backend", oauth.ClientSecretPost("backend-secret")],
]) {
  test(`oauth4webapi: ${name}`, async (t) => {
    const { url } = await start(t, "quickstart");
    const insecure = { [oauth.allowInsecureRequests]: true };
    const issuer = new URL(url);
    const discovered = await oauth.discoveryRequest(issuer, { ...insecure, algorithm: "oauth2" });
    const server = await oauth.processDiscoveryResponse(issuer, discovered);
    const client = { client_id: id };
    const login = async (parameters) =>
      oauth.processGenericTokenEndpointResponse(server, client, await oauth.genericTokenEndpointRequest(server, client, authentication, "password", parameters, insecure));
    await assert.rejects(login(wrong), (e) => e.error === "invalid_grant" && e.status === 400);
    const first = await login(user);
    assert.equal(first.scope, "me items");
    assert.equal(await status(url, first.access_token), 200);
    const again = await oauth.processRefreshTokenResponse(server, client, await oauth.refreshTokenGrantRequest(server, client, authentication, first.refresh_token, insecure));
    assert.notEqual(again.refresh_token, first.refresh_token);
    assert.equal(await status(url, again.access_token), 200);
    const resource = await oauth.protectedResourceRequest(again.access_token, "GET", new URL(url + "/users/me"), undefined, undefined, insecure);
    assert.equal((await resource.json()).username, "johndoe");
    await oauth.processRevocationResponse(await oauth.revocationRequest(server, client, authentication, again.refresh_token, insecure));
    assert.equal(await status(url, again.access_token), 401);
    await assert.rejects(
      oauth.protectedResourceRequest(again.access_token, "GET", new URL(url + "/users/me"), undefined, undefined, insecure),
      (e) => e.cause[0].scheme === "bearer" && e.cause[0].parameters.error === "invalid_token",
    );
  });
}

for (const [name, id, secret, authentication] of [
  ["public", "webapp", undefined, oidc.None()],
  ["a secret as a string", "backend", "backend-secret", undefined],
  ["confidential, Basic", "backend", undefined, oidc.ClientSecretBasic("backend-secret")],
]) {
  test(`openid-client: ${name}`, async (t) => {
    const { url } = await start(t, "quickstart");
    const config = await oidc.discovery(new URL(url), id, secret, authentication, { execute: [oidc.allowInsecureRequests], algorithm: "oauth2" });
    await assert.rejects(oidc.genericGrantRequest(config, "password", wrong), (e) => e.error === "invalid_grant");
    const first = await oidc.genericGrantRequest(config, "password", user);
    assert.equal(first.expires_in, 900);
    const again = await oidc.refreshTokenGrant(config, first.refresh_token);
    assert.equal((await oidc.fetchProtectedResource(config, again.access_token, new URL(url + "/users/me"), "GET")).status, 200);
    await oidc.tokenRevocation(config, again.refresh_token);
    assert.equal(await status(url, again.access_token), 401);
    await assert.rejects(oidc.refreshTokenGrant(config, again.refresh_token), (e) => e.error === "invalid_grant");
  });
}

for (const authorizationMethod of ["header", "body"]) {
  test(`simple-oauth2: ${authorizationMethod}`, async (t) => {
    const { url } = await start(t, "quickstart");
    const client = new ResourceOwnerPassword({
      client: { id: "backend", secret: "backend-secret" },
      auth: { tokenHost: url, tokenPath: "/token", revokePath: "/revoke" },
      options: { authorizationMethod },
    });
    await assert.rejects(client.getToken(wrong), (e) => e.output.statusCode === 400 && e.data.payload.error === "invalid_grant");
    const first = await client.getToken(user);
    assert.equal(await status(url, first.token.access_token), 200);
    assert.ok(!first.expired());
    const again = await first.refresh();
    assert.equal(await status(url, again.token.access_token), 200);
    await again.revoke("refresh_token");
    assert.equal(await status(url, again.token.access_token), 401);
  });
}

// python runs a script of this folder with Debian's Python and its packages.
for (const script of ["requests_client.py", "authlib_client.py"]) {
  test(script, async (t) => {
    const { url } = await start(t, "quickstart");
    const python = process.env.PYTHON ?? "/usr/bin/python3";
    const { stdout } = await run(python, [script, url], { cwd: import.meta.dirname, env: { ...process.env, OAUTHLIB_INSECURE_TRANSPORT: "1" } });
    assert.match(stdout, /^passed$/m);
  });
}

test("curl", async (t) => {
  const { url } = await start(t, "quickstart");
  const curl = async (...args) => {
    const { stdout } = await run("curl", ["-s", "-w", "\n%{http_code}", ...args]);
    const [body, code] = stdout.split(/\n(?=\d+$)/);
    return { code: Number(code), body: JSON.parse(body) };
  };
  const form = (values) => Object.entries(values).flatMap(([k, v]) => ["--data-urlencode", `${k}=${v}`]);
  for (const client of [[], ["-u", "webapp:"], ["-u", "backend:backend-secret"], form({ client_id: "backend", client_secret: "backend-secret" })]) {
    assert.deepEqual((await curl(...client, ...form({ grant_type: "password", ...wrong }), url + "/token")).body.error, "invalid_grant");
    const first = await curl(...client, ...form({ grant_type: "password", ...user }), url + "/token");
    assert.equal(first.code, 200);
    const again = await curl(...client, ...form({ grant_type: "refresh_token", refresh_token: first.body.refresh_token }), url + "/token");
    assert.equal(again.code, 200);
    assert.equal((await curl("-H", `Authorization: Bearer ${again.body.access_token}`, url + "/users/me")).body.username, "johndoe");
    assert.equal((await curl(...client, ...form({ token: again.body.refresh_token }), url + "/revoke")).code, 200);
    assert.equal((await curl("-H", `Authorization: Bearer ${again.body.access_token}`, url + "/users/me")).code, 401);
  }
});
