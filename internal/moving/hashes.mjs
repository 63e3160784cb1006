// Prints hashes of programs of Node.js. A line has the name of the format in
// examples/guides/movingin_others_test.go, the password in hex, and the hash.
import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";
import argon2 from "argon2";
import bcrypt from "bcrypt";
import bcryptjs from "bcryptjs";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";

const { pbkdf2 } = createRequire(import.meta.url)("./node_modules/passport-local-mongoose/dist/lib/pbkdf2.js");
const line = (format, password, hash) => console.log([format, Buffer.from(password).toString("hex"), hash].join("\t"));

for (const p of process.argv.slice(2)) {
  line("direct", p, await argon2.hash(p));
  line("direct", p, await bcrypt.hash(p, 5));
  line("direct", p, await bcryptjs.hash(p, 5));

  const db = { user: [], account: [], session: [], verification: [] };
  const auth = betterAuth({ database: memoryAdapter(db), emailAndPassword: { enabled: true, minPasswordLength: 1 }, secret: randomBytes(32).toString("hex"), baseURL: "http://127.0.0.1:1", telemetry: { enabled: false } });
  await auth.api.signUpEmail({ body: { email: "JohnDoe@example.com", password: p, name: "John" } });
  if (db.account[0].providerId !== "credential" || db.user[0].email !== "johndoe@example.com") throw new Error("not the table of the guide");
  line("better-auth", p, db.account[0].password);

  const salt = randomBytes(32).toString("hex"); // as in its setPassword
  const key = await pbkdf2(p, salt, { iterations: 25000, keylen: 512, digestAlgorithm: "sha256" });
  line("passport-local-mongoose", p, `${salt}:${key.toString("hex")}`);
}
