import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { reloadFiles } from "../../../src/mesh/tls/reloaded-files.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { replaceFile } from "../../support/certificates.js";

test("half-updated key pair is no error when the other half arrives by the next check", async (t) => {
  const folder = await temporaryFolder();
  const [first, second] = [join(folder, "first"), join(folder, "second")];
  await replaceFile(first, "old");
  await replaceFile(second, "old");
  const rejected: unknown[] = [];
  let halves = 0;
  const pair = reloadFiles({
    files: [first, second],
    make([one, other]) {
      const found = `${one}`;
      if (found !== `${other}`) {
        halves++;
        // What deploys the pair goes on while it is looked at.
        writeFileSync(second, "new");
        throw new Error("half of a pair");
      }
      return found;
    },
    onRejected: (error) => rejected.push(error),
    intervalMs: 10,
  });
  // Looking keeps no process alive.
  const alive = setInterval(() => {}, 60_000);
  t.after(() => {
    clearInterval(alive);
    pair.close();
  });
  const changed = new Promise<string>((resolve) => pair.onChange(resolve));
  await replaceFile(first, "new");
  assert.equal(await changed, "new");
  assert.deepEqual([halves, rejected, pair.current], [1, [], "new"]);
});
