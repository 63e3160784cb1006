// The OpenAPI document of the quickstart, read by a validator of Node.js. generated/ has one of
// Go, and a client that is generated from the document.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { Validator } from "@seriousme/openapi-schema-validator";
import { start } from "./harness.mjs";

test("the document is valid", async (t) => {
  const { url } = await start(t, "quickstart");
  const document = await (await fetch(url + "/openapi.json")).json();
  const validator = new Validator();
  const result = await validator.validate(document);
  assert.ok(result.valid, JSON.stringify(result.errors));
  assert.equal(validator.version, "3.1");
});

test("a validator of Go, and a generated client", async (t) => {
  const { stdout } = await promisify(execFile)("go", ["env", "GOVERSION"]);
  if (/^go1\.2[0-5]\b/.test(stdout)) return t.skip(`the validator needs Go 1.26, not ${stdout.trim()}`);
  const { url } = await start(t, "quickstart");
  const cwd = join(import.meta.dirname, "generated");
  await mkdir(join(cwd, "api"), { recursive: true });
  await writeFile(join(cwd, "openapi.json"), await (await fetch(url + "/openapi.json")).text());
  const go = (...args) => promisify(execFile)("go", args, { cwd, env: { ...process.env, GOWORK: "off", URL_OF_API: url } });
  await go("generate", ".");
  await go("test", "-count=1", ".");
});
