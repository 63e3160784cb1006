package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
)

// tabs runs the client of docs/clients.md in twenty tabs: copies of the module that share a
// storage and a lock, as in a browser.
const tabs = `
import assert from "node:assert/strict";
const { URL_OF_API: api, PASSWORD: password, CODE: code } = process.env;
const storage = new Map();
globalThis.indexedDB = { // as much as the module uses
  open() {
    const opened = { result: { transaction: () => {
      const t = { objectStore: () => ({ get: (k) => ({ result: storage.get(k) }), put: (v, k) => (storage.set(k, v), {}), delete: (k) => (storage.delete(k), {}) }) };
      setImmediate(() => t.oncomplete());
      return t;
    } } };
    setImmediate(() => opened.onsuccess());
    return opened;
  },
};
globalThis.location = new URL("http://app.example.com/");
globalThis.BroadcastChannel = class { postMessage() {} };
let last = Promise.resolve();
const request = (_, work) => (last = last.catch(() => {}).then(work));
Object.defineProperty(globalThis, "navigator", { value: { locks: { request } }, configurable: true });
const real = globalThis.fetch;
let refreshes = 0, failure = null;
globalThis.fetch = async (path, init) => {
  if (path === "/token" && init.body.get("grant_type") === "refresh_token") {
    refreshes++;
    if (failure) return failure();
  }
  return real(api + path, init);
};
const open = [];
for (let i = 0; i < 20; i++) open.push(await import("./session.mjs?" + i));
const [tab, other] = open;
const expire = () => { // the access token is refused from now on
  storage.set("session", { ...storage.get("session"), access_token: "expired" });
};

await assert.rejects(tab.login("jane@example.com", "wrong"), { code: "invalid_grant" });
await assert.rejects(tab.login("jane@example.com", password), { code: "mfa_required" });
await tab.login("jane@example.com", password, code);
for (let i = 0; i < 3; i++) {
  expire();
  refreshes = 0;
  const answers = await Promise.all(open.map((t) => t.call("/account")));
  assert.deepEqual(answers.map((a) => a.status), Array(20).fill(200));
  assert.equal(refreshes, 1);
}
expire();
failure = () => new Response('{"error":"temporarily_unavailable"}', { status: 503 });
await assert.rejects(tab.call("/account"), { code: "temporarily_unavailable" });
failure = () => { throw new TypeError("fetch failed"); };
await assert.rejects(tab.call("/account"), TypeError);
failure = () => new Response("<html>", { status: 502 });
await assert.rejects(tab.call("/account"), SyntaxError);
failure = null;
assert.equal((await other.call("/account")).status, 200);

assert.equal((await tab.renew("/reauthenticate", { password: "wrong" })).status, 403);
assert.equal((await other.call("/account")).status, 200);
assert.equal((await tab.renew("/reauthenticate", { password })).status, 200);
refreshes = 0;
assert.equal((await other.call("/totp", { method: "DELETE" })).status, 204);
assert.equal(refreshes, 0);

assert.equal((await tab.call("/sessions", { method: "DELETE" })).status, 204);
await assert.rejects(other.call("/account"), { code: "invalid_grant" });
assert.equal(storage.size, 0);
await assert.rejects(tab.call("//other.example.com/account"), TypeError);
assert.equal((await tab.renew("/reauthenticate", { password })).status, 401, "without a session");
assert.equal((await other.call("/account")).status, 401);
`

// TestClient runs the client of docs/clients.md. Without a grace period, a second use of a
// refresh token would end the session.
func TestClient(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "node is not installed") // a skipped test would look green there
		t.Skip("node is not installed")
	}
	w := start(t, "-refresh-grace=0")
	w.join(jane)
	code := w.code(w.enroll(w.login(jane, password).access()), 1)

	dir := t.TempDir()
	client := readme.BlocksOf(t, "../../docs/clients.md", "js")[0]
	require.NoError(t, os.WriteFile(filepath.Join(dir, "session.mjs"), []byte(client), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tabs.mjs"), []byte(tabs), 0o600))
	cmd := exec.Command(node, "tabs.mjs")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "URL_OF_API="+w.url, "PASSWORD="+password, "CODE="+code)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
