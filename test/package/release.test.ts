import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { releaseChanges } from "../../scripts/release/changelog.js";
import { billOfMaterials, licenceProblems } from "../../scripts/release/dependencies.js";
import { makeNotice } from "../../scripts/release/notice.js";
import { homeProblems, publishProblems, versionProblems } from "../../scripts/release/problems.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

const home = {
  repository: "git+https://git.example/o/r.git",
  bugs: "https://git.example/b",
  homepage: "https://x.example",
};

suite("a release", () => {
  const checkout = { version: "1.2.0", changes: "", tags: ["v1.2.0"] };

  test("takes a later version on a clean checkout", () => {
    for (const next of ["1.2.1", "1.3.0", "2.0.0", "1.10.0"]) {
      assert.deepEqual(versionProblems(next, checkout), []);
    }
  });

  test("may be the first one under the number that the checkout has", () => {
    assert.deepEqual(versionProblems("1.2.0", { ...checkout, tags: ["nightly"] }), []);
  });

  test("rejects versions that are not later, a used tag, and changes", () => {
    for (const next of ["1.2.0", "1.1.9", "0.9.0", "1.3", "v1.3.0", "1.03.0", "1.3.0-rc.1", ""]) {
      assert.deepEqual(versionProblems(next, { ...checkout, tags: ["v1.1.0"] }), [
        `${next} is no version after 1.2.0: give one such as 1.3.0`,
      ]);
    }
    assert.deepEqual(versionProblems("1.3.0", { ...checkout, changes: " M README.md", tags: ["v1.3.0"] }), [
      "the working tree has changes: commit them",
      "the tag v1.3.0 exists: choose another version",
    ]);
  });

  test("turns what is unreleased into its section", () => {
    const changelog = "# Changelog\n\n## Unreleased\n\n### Added\n\n- A.\n\n## 1.0.0 (2026-01-01)\n\n- First.\n";
    const released = releaseChanges(changelog, "1.1.0", "2026-02-03");
    assert.equal(
      released,
      "# Changelog\n\n## Unreleased\n\n## 1.1.0 (2026-02-03)\n\n### Added\n\n- A.\n\n## 1.0.0 (2026-01-01)\n\n- First.\n",
    );
    assert.equal(
      releaseChanges("## Unreleased\n\n- A.\n", "0.1.0", "2026-02-03"),
      "## Unreleased\n\n## 0.1.0 (2026-02-03)\n\n- A.\n",
    );
    assert.throws(() => releaseChanges(released, "1.2.0", "2026-02-03"), /nothing under Unreleased/);
    assert.throws(() => releaseChanges(released, "1.1.0", "2026-02-03"), /a section for 1\.1\.0 already/);
    assert.throws(() => releaseChanges("# Changelog\n", "1.2.0", "2026-02-03"), /nothing under Unreleased/);
  });

  test("is published from a clean, tagged checkout with a public home and a changelog", () => {
    const ready = {
      manifest: home,
      version: "1.2.0",
      changelog: "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-01-02)\n",
      changes: "",
      tags: ["latest", "v1.2.0"],
    };
    assert.deepEqual(publishProblems(ready), []);
    for (const field of Object.keys(home)) {
      assert.deepEqual(homeProblems({ ...home, [field]: undefined }), [
        `package.json has no ${field}: set it to the repository's public home`,
      ]);
    }
    const changelog = "## 1.2.01 (2026-01-02)\n";
    assert.deepEqual(publishProblems({ ...ready, changes: " M README.md", tags: ["v1.2"], changelog }), [
      "the working tree has changes: commit them",
      "the commit has no tag v1.2.0",
      "CHANGELOG.md has no section for 1.2.0",
    ]);
  });
});

suite("licences", () => {
  const of = (...licences: readonly string[]) => licenceProblems([{ name: "a", version: "1.0.0", licences }]);

  test("of all dependencies are accepted, on every platform", async () => {
    const { text, dependencies } = await billOfMaterials(root);
    assert.deepEqual(licenceProblems(dependencies), []);
    assert.ok(dependencies.some(({ name }) => name === "@img/sharp-darwin-arm64"));
    assert.equal(JSON.parse(text).metadata.component.name, "throughline");
  });

  test("are rejected where they ask for more than a notice, or are unknown", () => {
    for (const licence of ["MIT", "(MIT OR GPL-3.0-only)", "MIT AND Apache-2.0", "(Apache-2.0 AND BSD-3-Clause)"]) {
      assert.deepEqual(of(licence), [], licence);
    }
    for (const licence of ["GPL-3.0-only", "MIT AND LGPL-3.0-or-later", "SEE LICENSE IN x", "UNLICENSED", "(A OR B)"]) {
      assert.match(of(licence)[0] ?? "", /^a@1\.0\.0 is under .*: replace it, or add the licence/, licence);
    }
    assert.deepEqual(of(), ["a@1.0.0 declares no licence: look it up, and replace the package if it has none"]);
  });

  test("are named in NOTICE as it is made now", async () => {
    assert.equal(await readFile(`${root}/NOTICE`, "utf8"), await makeNotice(root), "run npm run notice");
  });
});
