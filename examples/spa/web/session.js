// session.js: the tokens of one login, shared by all tabs of an origin.
// A read of IndexedDB sees every finished write of another tab. A read of localStorage does
// not, for some milliseconds, even inside of a lock.
const database = new Promise((resolve, reject) => {
  const open = indexedDB.open("session", 1);
  open.onupgradeneeded = () => open.result.createObjectStore("tokens");
  open.onsuccess = () => resolve(open.result);
  open.onerror = () => reject(open.error);
});
async function tokens(mode, work) {
  const transaction = (await database).transaction("tokens", mode, { durability: "strict" });
  const request = work(transaction.objectStore("tokens"));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}
const others = new BroadcastChannel("session"); // the other tabs
const load = () => tokens("readonly", (t) => t.get("session"));
const write = async (work) => {
  await tokens("readwrite", work);
  others.postMessage("changed");
};
const locked = (work) => navigator.locks.request("session", work); // one tab at a time
const post = (path, params) => // an answer that takes longer is lost: the same token is sent again
  fetch(path, { method: "POST", body: new URLSearchParams(params), signal: AbortSignal.timeout(10_000) });

// token saves the answer before any request uses it. The id of the login stays the same.
async function token(params, login) {
  const response = await post("/token", params);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { code: answer.error });
  await write((t) => t.put({ ...answer, login }, "session"));
}

export const login = (username, password, totp = "") => locked(async () => {
  const before = await load();
  await token({ grant_type: "password", username, password, totp }, crypto.randomUUID());
  if (before) await end(before).catch(() => {});
});

// logout forgets the tokens first. Without a network the session ends at the server later.
export const logout = () => locked(async () => {
  const session = await load();
  await write((t) => t.delete("session"));
  if (session) await end(session);
});
async function end(session) {
  await tokens("readwrite", (t) => t.put(session.refresh_token, "revoke"));
  await revoke();
}
// revoke ends a session that end could not end. Call it when a page starts.
export async function revoke() {
  const token = await tokens("readonly", (t) => t.get("revoke"));
  if (!token) return;
  const response = await post("/revoke", { token });
  if (!response.ok) throw new Error("the session is still live at the server");
  await tokens("readwrite", (t) => t.delete("revoke"));
}

export const loggedIn = async () => (await load()) !== undefined;
export const onChange = (work) => (others.onmessage = work); // another tab has changed the session

let refreshing = null; // the requests of a tab share one refresh, and its failure
const refresh = (used) => (refreshing ??= locked(async () => {
  const session = await load();
  if (!session || session.access_token !== used) return; // another tab was first
  try {
    await token({ grant_type: "refresh_token", refresh_token: session.refresh_token }, session.login);
  } catch (error) {
    if (error.code === "invalid_grant") await write((t) => t.delete("session")); // it has ended
    throw error; // all other errors: try again later, with the same token
  }
}).finally(() => (refreshing = null)));

async function send(path, init = {}) {
  if (new URL(path, location).origin !== location.origin) throw new TypeError("a token for another origin");
  const session = await load();
  const headers = new Headers(init.headers);
  if (session) headers.set("Authorization", `Bearer ${session.access_token}`);
  return { session, response: await fetch(path, { ...init, headers }) };
}

// call sends a request, and once more after a refresh, if the same user is still logged in.
export async function call(path, init) {
  const { session, response } = await send(path, init);
  if (!response.headers.get("WWW-Authenticate")?.includes('error="invalid_token"')) return response;
  await refresh(session?.access_token);
  if ((await load())?.login !== session?.login) throw new Error("another user has logged in");
  return (await send(path, init)).response;
}

// renew sends a password to a route that answers with new tokens, with a fresh access token.
export async function renew(path, members) {
  await refresh((await load())?.access_token);
  return locked(async () => {
    const { session, response } = await send(path, { method: "POST", body: JSON.stringify(members) });
    if (response.ok) {
      const answer = await response.clone().json();
      await write((t) => t.put({ ...answer, login: session.login }, "session"));
    }
    return response;
  });
}
