import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { compile, isStale } from "../../scripts/compile.mjs";

test("checkout is compiled without its page, and is stale when a source is newer", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "throughline-checkout-"));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, "src/page"), { recursive: true });
  const source = join(root, "src/answer.ts");
  writeFileSync(source, "export const answer: number = 42;\n");
  writeFileSync(join(root, "src/page/page.tsx"), "not compiled here");

  assert.equal(await isStale(root), undefined);
  assert.equal(await compile(root), true);
  assert.match(readFileSync(join(root, "dist/answer.js"), "utf8"), /const answer = 42/);
  assert.equal(await isStale(root), false);

  const later = new Date(Date.now() + 60_000);
  utimesSync(source, later, later);
  assert.equal(await isStale(root), true);
});
