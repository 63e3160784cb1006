import { call, login, loggedIn, logout, onChange, revoke } from "./session.js";

const $ = (id) => document.getElementById(id);
const say = (text) => ($("message").textContent = text);

async function show() {
  const inside = await loggedIn();
  $("login").hidden = inside;
  $("app").hidden = !inside;
}
onChange(show);

// act shows the result of a piece of work, or the reason why there is none. refused is the text
// for invalid_grant; after every other failure the tokens stay.
async function act(refused, work) {
  say("…");
  try {
    say(await work());
  } catch (error) {
    say({ invalid_grant: refused, slow_down: "Too many attempts. Try again later." }[error.code] ?? "Please try again.");
  }
  show();
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const { username, password } = event.target.elements;
  act("The name or the password is wrong.", async () => {
    await login(username.value, password.value);
    event.target.reset();
    return "Logged in.";
  });
});
$("load").addEventListener("click", () =>
  act("Please log in again.", async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => call("/sessions")));
    const bodies = await Promise.all(answers.map((a) => a.text()));
    return answers.every((a) => a.ok) ? `10 answers: ${bodies[0].trim()} session` : `refused: ${answers.find((a) => !a.ok).status}`;
  }),
);
$("logout").addEventListener("click", () =>
  act("", async () => {
    try {
      await logout();
      return "Logged out.";
    } catch {
      return "Logged out here. The server gets to know it when this page opens again.";
    }
  }),
);
show();
revoke().catch(() => {}); // a session of an earlier logout; next time, if there is no network
