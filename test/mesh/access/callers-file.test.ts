import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import type { CallerDirectory } from "../../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../../src/mesh/access/caller-keys.js";
import { reloadCallersFile } from "../../../src/mesh/access/callers-file.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { replaceFile } from "../../support/certificates.js";

const key = createCallerKey();
const hash = hashCallerKey(key);
const bearer = (each: string) => ({ authorization: `Bearer ${each}`, certificateNames: [] });

suite("callers file", async () => {
  const folder = await temporaryFolder();
  const path = join(folder, "callers.yaml");
  const read = async (text: string): Promise<CallerDirectory> => {
    await writeFile(path, text);
    const file = reloadCallersFile(path, { onRejected: () => {} });
    file.close();
    return file.current;
  };

  test("callers file is accepted as YAML and as JSON", async () => {
    const yaml = `callers:
  - name: studio
    keys: ["${hash}"]
    apps: [local/worker, acme/*]
    requestsPerMinute: 60
    burst: 10
    maxConcurrent: 4
  - name: batch
    certificates: ["uri:spiffe://mesh/batch"]
    apps: ["*"]
    mayNameCallers: true
    requestsPerSecond: 0.5`;
    const directory = await read(yaml);
    const studio = directory.find(bearer(key));
    assert.deepEqual(studio?.rate, { perSecond: 1, burst: 10, label: "60 requests a minute" });
    assert.equal(studio?.maxConcurrent, 4);
    const apps = ["local/worker", "local/other", "acme/any", "acmes/any"];
    assert.deepEqual(
      apps.map((app) => studio?.mayUse(app)),
      [true, false, true, false],
    );
    const batch = directory.find({ authorization: undefined, certificateNames: ["uri:spiffe://mesh/batch"] });
    assert.deepEqual(batch?.rate, { perSecond: 0.5, burst: 1, label: "0.5 requests a second" });
    assert.equal(batch?.mayUse("any/thing"), true);
    assert.deepEqual([studio?.mayNameCallers, batch?.mayNameCallers], [undefined, true]);
    const json = await read(JSON.stringify({ callers: [{ name: "studio", keys: [hash], apps: ["a/b"] }] }));
    assert.equal(json.find(bearer(key))?.name, "studio");
    assert.equal((await read("callers: []")).find(bearer(key)), undefined);
  });

  test("callers file lists the apps that a worker may register as, which is no permission to call them", async () => {
    const text = `callers: [{ name: workers, keys: ["${hash}"], register: [acme/*, local/worker] }]`;
    const workers = (await read(text)).find(bearer(key));
    const apps = ["acme/any", "local/worker", "local/other"];
    assert.deepEqual(
      apps.map((app) => workers?.mayRegister?.(app)),
      [true, true, false],
    );
    assert.deepEqual(
      apps.map((app) => workers?.mayUse(app)),
      [false, false, false],
    );
    const caller = (await read(`callers: [{ name: a, keys: ["${hash}"], apps: ["*"] }]`)).find(bearer(key));
    assert.equal(caller?.mayRegister?.("acme/any"), false);
  });

  const one = (fields: string) => `callers: [{ name: studio, apps: ["*"], ${fields} }]`;
  const keyed = `keys: ["${hash}"]`;
  const cases: readonly (readonly [what: string, text: string, message: RegExp])[] = [
    ["invalid YAML", "callers: [CANARY", /callers\.yaml is neither YAML nor JSON: see line 1$/],
    ["an alias bomb", "a: &a [x]\nb: [*a, *a]", /neither YAML nor JSON/],
    ["another shape", "CANARY", /callers\.yaml: the file must be object/],
    ["no list", "callers: CANARY", /: callers must be a list/],
    ["an unknown field", one(`${keyed}, CANARY: 1`), /: callers\.0 has an unknown field; allowed are name, keys,/],
    ["a key that is not hashed", one('keys: ["tl_CANARY"]'), /: callers\.0\.keys\.0 must be sha256: and 64 hexa/],
    ["a certificate without its kind", one('certificates: ["CANARY"]'), /: callers\.0\.certificates\.0 must be a name/],
    ["neither key nor certificate", one("maxConcurrent: 1"), /: callers\.0 needs keys or certificates/],
    [
      "an invalid name",
      `callers: [{ name: "CANARY CANARY", apps: ["*"], ${keyed} }]`,
      /: callers\.0\.name must be up to 64/,
    ],
    [
      "no apps",
      `callers: [{ name: a, ${keyed} }]`,
      /: callers\.0 needs apps that it may use, or for a worker, apps that/,
    ],
    [
      "apps that are no list",
      `callers: [{ name: a, apps: x, ${keyed} }]`,
      /: callers\.0\.apps must be a list of app ids/,
    ],
    [
      "an invalid app to register as",
      `callers: [{ name: a, register: ["CANARY"], ${keyed} }]`,
      /: callers\.0\.register\.0 must be an app id/,
    ],
    [
      "an empty list of apps",
      `callers: [{ name: a, apps: [], ${keyed} }]`,
      /: callers\.0\.apps must name at least one/,
    ],
    ["an invalid app", `callers: [{ name: a, apps: ["CANARY"], ${keyed} }]`, /: callers\.0\.apps\.0 must be an app id/],
    [
      "two rates",
      one(`${keyed}, requestsPerMinute: 1, requestsPerSecond: 1`),
      /: callers\.0 takes requestsPerSecond or/,
    ],
    ["a rate of 0", one(`${keyed}, requestsPerMinute: 0`), /: callers\.0\.requestsPerMinute must be a number above 0/],
    ["a burst without a rate", one(`${keyed}, burst: 3`), /: callers\.0 takes burst only with/],
    [
      "an invalid mayNameCallers",
      one(`${keyed}, mayNameCallers: CANARY`),
      /: callers\.0\.mayNameCallers must be true or f/,
    ],
    [
      "a fractional maxConcurrent",
      one(`${keyed}, maxConcurrent: 0.5`),
      /: callers\.0\.maxConcurrent must be a whole number/,
    ],
    [
      "a repeated name",
      `callers: [{ name: a, apps: ["*"], ${keyed} }, { name: a, apps: ["*"], certificates: ["cn:x"] }]`,
      /contains a duplicate name: name 2/,
    ],
    [
      "a repeated key",
      `callers: [{ name: a, apps: ["*"], ${keyed} }, { name: b, apps: ["*"], ${keyed} }]`,
      /contains a duplicate key: key 2/,
    ],
  ];
  for (const [what, text, message] of cases) {
    test(`callers file with ${what} is rejected, and the error quotes nothing from it`, async () => {
      await assert.rejects(read(text), (error: Error) => {
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /CANARY/);
        return true;
      });
    });
  }

  test("callers file that changes at runtime adds and revokes keys; an invalid version changes nothing", async (t) => {
    const own = join(await temporaryFolder(), "callers.yaml");
    const fileOf = (...keys: string[]) => `callers: [{ name: a, apps: ["*"], keys: [${keys.map(hashCallerKey)}] }]`;
    await writeFile(own, fileOf(key));
    let onRejected = (_: unknown) => {};
    const file = reloadCallersFile(own, { intervalMs: 20, onRejected: (error) => onRejected(error) });
    const alive = setInterval(() => {}, 60_000);
    t.after(() => {
      clearInterval(alive);
      file.close();
    });
    const change = () => new Promise<void>((resolve) => file.onChange(() => resolve()));
    const known = (each: string) => file.current.find(bearer(each)) !== undefined;
    const next = createCallerKey();

    let changed = change();
    await replaceFile(own, fileOf(key, next));
    await changed;
    assert.deepEqual([known(key), known(next)], [true, true]);
    changed = change();
    await replaceFile(own, fileOf(next));
    await changed;
    assert.deepEqual([known(key), known(next)], [false, true]);
    const rejection = new Promise((resolve) => {
      onRejected = resolve;
    });
    await replaceFile(own, "callers: nonsense");
    assert.match(String(await rejection), /callers must be a list/);
    assert.equal(known(next), true);
  });
});
