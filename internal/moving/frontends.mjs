// Sends the forms of front ends to a token endpoint: URL, and the URL of one with LaxForm. A
// line has the form and the status.
const [strict, lax] = process.argv.slice(2);
const form = new FormData();
form.set("username", "johndoe");
form.set("password", "secret");
const line = async (name, url, body, headers = {}) => {
  const response = await fetch(url + "/token", { method: "POST", body, headers });
  const answer = await response.json();
  console.log([name, response.status, answer.error ?? "token"].join("\t"));
};
const password = (more) => new URLSearchParams({ grant_type: "password", username: "johndoe", password: "secret", ...more });

// The form of fastapi-users' manual, and the two ways out.
await line("FormData", strict, form);
await line("FormData, LaxForm", lax, form);
await line("URLSearchParams without grant_type", strict, new URLSearchParams(form));
await line("URLSearchParams without grant_type, LaxForm", lax, new URLSearchParams(form));
form.set("grant_type", "password");
await line("URLSearchParams with grant_type", strict, new URLSearchParams(form));

await line("offline_access", strict, password({ scope: "me offline_access" }));
await line("https,http", strict, password(), { "X-Forwarded-Proto": "https,http" });
await line("https, X-Forwarded-Ssl off", strict, password(), { "X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off" });
await line("CF-Visitor http", strict, password(), { "CF-Visitor": '{"scheme":"http"}' });

// A server in front of the API sends the address of its user.
const wrong = (name, address) => line(name, strict, new URLSearchParams({ grant_type: "password", username: "alice", password: `wrong${Math.random()}` }), address ? { "X-Forwarded-For": address } : {});
for (let i = 1; i <= 10; i++) await wrong("wrong, 192.0.2.1", "192.0.2.1");
await wrong("wrong again, 192.0.2.1", "192.0.2.1");
await wrong("wrong, 192.0.2.2", "192.0.2.2");
