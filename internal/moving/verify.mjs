// Verifies access tokens by libraries of Node.js. The folder has EdDSA.token, EdDSA.pem,
// EdDSA.jwks and so on. A line has the library, the algorithm or rule, and yes or no.
import { readFileSync } from "node:fs";
import jwt from "jsonwebtoken";
import { createLocalJWKSet, importSPKI, jwtVerify } from "jose";

const read = (name) => readFileSync(`${process.argv[2]}/${name}`, "utf8");
const line = async (library, rule, verify) => console.log([library, rule, await verify().then(() => "yes", () => "no")].join("\t"));

for (const alg of ["EdDSA", "ES256", "RS256"]) {
  const token = read(`${alg}.token`), pem = read(`${alg}.pem`);
  const keys = createLocalJWKSet(JSON.parse(read(`${alg}.jwks`)));
  await line("jsonwebtoken", alg, async () => jwt.verify(token, pem, { audience: "api", issuer: "https://api.example.com" }));
  await line("jose", alg, async () => jwtVerify(token, keys, { audience: "api", issuer: "https://api.example.com", typ: "at+jwt" }));
  await line("jose", alg, async () => jwtVerify(token, await importSPKI(pem, alg), { audience: "api" }));
}
const token = read("ES256.token"), pem = read("ES256.pem"), key = await importSPKI(pem, "ES256");
await line("jsonwebtoken", "without aud", async () => jwt.verify(token, pem));
await line("jsonwebtoken", "other aud", async () => jwt.verify(token, pem, { audience: "other" }));
await line("jose", "without aud", async () => jwtVerify(token, key));
await line("jose", "other aud", async () => jwtVerify(token, key, { audience: "other" }));
await line("jose", "typ JWT", async () => jwtVerify(token, key, { typ: "JWT" }));
await line("jsonwebtoken", "expired", async () => jwt.verify(read("expired.token"), pem));
await line("jose", "expired", async () => jwtVerify(read("expired.token"), key));
