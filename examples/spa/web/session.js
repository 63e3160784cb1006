// session.js: the tokens of one login, shared by all tabs of an origin.
const load = () => JSON.parse(localStorage.getItem("session"));
const save = (answer) => localStorage.setItem("session", JSON.stringify(answer));
const forget = () => localStorage.removeItem("session");
const locked = (work) => navigator.locks.request("session", work); // one tab at a time

async function token(params) {
  const response = await fetch("/token", { method: "POST", body: new URLSearchParams(params) });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { code: answer.error });
  save(answer);
}

export const login = (username, password, totp = "") =>
  locked(() => token({ grant_type: "password", username, password, totp }));

// logout forgets the tokens first: without a network, this browser is logged out as well.
export const logout = () => locked(async () => {
  const session = load();
  forget();
  if (session) await fetch("/revoke", { method: "POST", body: new URLSearchParams({ token: session.refresh_token }) });
});

export const loggedIn = () => load() !== null;

let refreshing = null; // the requests of a tab share one refresh, and its failure
const refresh = (used) => (refreshing ??= locked(async () => {
  const session = load();
  if (session?.access_token !== used) return; // another tab was first
  try {
    await token({ grant_type: "refresh_token", refresh_token: session.refresh_token });
  } catch (error) {
    if (error.code === "invalid_grant") forget(); // the session has ended
    throw error; // all other errors: try again later, with the same token
  }
}).finally(() => (refreshing = null)));

async function send(path, init = {}) {
  const used = load()?.access_token;
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
  await refresh(load()?.access_token);
  return locked(async () => {
    const { response } = await send(path, { method: "POST", body: JSON.stringify(members) });
    if (response.ok) save(await response.clone().json());
    return response;
  });
}
