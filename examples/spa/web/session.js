// session.js: the tokens of one login, shared by all tabs of an origin.
// IndexedDB is the same for all tabs at every moment; localStorage is not: a tab may read an old
// value for some milliseconds, even inside of the lock.
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
const save = (answer) => write((t) => t.put(answer, "session"));
const forget = () => write((t) => t.delete("session"));
const locked = (work) => navigator.locks.request("session", work); // one tab at a time

async function token(params) {
  const response = await fetch("/token", { method: "POST", body: new URLSearchParams(params) });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { code: answer.error });
  await save(answer);
}

export const login = (username, password, totp = "") =>
  locked(() => token({ grant_type: "password", username, password, totp }));

// logout forgets the tokens first: without a network, this browser is logged out as well.
export const logout = () => locked(async () => {
  const session = await load();
  await forget();
  if (session) await fetch("/revoke", { method: "POST", body: new URLSearchParams({ token: session.refresh_token }) });
});

export const loggedIn = async () => (await load()) !== undefined;
export const onChange = (work) => (others.onmessage = work); // another tab has changed the session

let refreshing = null; // the requests of a tab share one refresh, and its failure
const refresh = (used) => (refreshing ??= locked(async () => {
  const session = await load();
  if (session?.access_token !== used) return; // another tab was first
  try {
    await token({ grant_type: "refresh_token", refresh_token: session.refresh_token });
  } catch (error) {
    if (error.code === "invalid_grant") await forget(); // the session has ended
    throw error; // all other errors: try again later, with the same token
  }
}).finally(() => (refreshing = null)));

async function send(path, init = {}) {
  const used = (await load())?.access_token;
  const headers = new Headers(init.headers);
  if (used) headers.set("Authorization", `Bearer ${used}`);
  return { used, response: await fetch(path, { ...init, headers }) };
}

// call sends a request, and once more after a refresh.
export async function call(path, init) {
  const { used, response } = await send(path, init);
  if (!response.headers.get("WWW-Authenticate")?.includes('error="invalid_token"')) return response;
  await refresh(used);
  return (await send(path, init)).response;
}

// renew sends a password to a route that answers with new tokens, with a fresh access token.
export async function renew(path, members) {
  await refresh((await load())?.access_token);
  return locked(async () => {
    const { response } = await send(path, { method: "POST", body: JSON.stringify(members) });
    if (response.ok) await save(await response.clone().json());
    return response;
  });
}
