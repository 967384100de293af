import assert from "node:assert/strict";
import { test } from "node:test";
import { releaseProblems } from "../../scripts/release-problems.js";

const home = {
  repository: "git+https://git.example/o/r.git",
  bugs: "https://git.example/b",
  homepage: "https://x.example",
};
const ready = {
  manifest: { version: "1.2.0", ...home },
  changelog: "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-01-02)\n",
  changes: "",
  tags: ["latest", "v1.2.0"],
};

test("a clean, tagged checkout with a public home and a changelog can be released", () => {
  assert.deepEqual(releaseProblems(ready), []);
});

for (const field of Object.keys(home)) {
  test(`a release without ${field} is rejected`, () => {
    const problems = releaseProblems({ ...ready, manifest: { ...ready.manifest, [field]: undefined } });
    assert.deepEqual(problems, [`package.json has no ${field}: set it to the repository's public home`]);
  });
}

test("a release with changes, without its tag, and without its section of the changelog is rejected", () => {
  const changelog = "## 1.2.01 (2026-01-02)\n";
  const problems = releaseProblems({ ...ready, changes: " M README.md", tags: ["v1.2"], changelog });
  assert.deepEqual(
    problems.map((problem) => problem.split(":")[0]),
    ["the working tree has changes", "the commit has no tag v1.2.0", "CHANGELOG.md has no section for 1.2.0"],
  );
});
