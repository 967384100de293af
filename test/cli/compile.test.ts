import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import { pathToFileURL } from "node:url";
import { compile, isStale } from "../../scripts/compile.mjs";

function createCheckout(t: TestContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), "throughline-checkout-"));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
  return root;
}

const installed = (version: string) =>
  JSON.stringify({
    packages: { "node_modules/left": { version }, "node_modules/tool": { version: `${version}0`, dev: true } },
  });

test("a checkout is compiled without its page, and is stale once a source is newer or a package another", async (t) => {
  const root = createCheckout(t, {
    "src/answer.ts": "export const answer: number = 42;\n",
    "src/page/page.tsx": "not compiled here",
    "node_modules/.package-lock.json": installed("1.0.0"),
  });

  assert.equal(await isStale(root), undefined);
  assert.equal(await compile(root), true);
  assert.match(readFileSync(join(root, "dist/answer.js"), "utf8"), /answer = 42/);
  assert.equal(existsSync(join(root, "dist/page")), false);
  assert.equal(await isStale(root), false);

  writeFileSync(join(root, "node_modules/.package-lock.json"), installed("1.0.1"));
  assert.equal(await isStale(root), true);
  writeFileSync(join(root, "node_modules/.package-lock.json"), installed("1.0.0"));
  assert.equal(await isStale(root), false);

  const later = new Date(Date.now() + 60_000);
  utimesSync(join(root, "src/answer.ts"), later, later);
  assert.equal(await isStale(root), true);
});

test("a compiled module knows its own place and shares its packages with the others", async (t) => {
  const root = createCheckout(t, {
    "src/first/one.ts": 'export { made } from "left";\nexport const url: string = import.meta.url;\n',
    "src/two.ts": 'export { made } from "left";\nexport { url } from "./first/one.js";\n',
    "node_modules/left/index.js": "exports.made = {};\n",
  });

  assert.equal(await compile(root), true);
  // The compiled modules bring the package with them.
  rmSync(join(root, "node_modules"), { recursive: true });
  const place = (name: string) => pathToFileURL(join(realpathSync(root), "dist", name)).href;
  const [one, two] = await Promise.all([import(place("first/one.js")), import(place("two.js"))]);
  assert.equal(one.url, place("first/one.js"));
  assert.equal(two.url, place("first/one.js"));
  assert.equal(one.made, two.made);
});
