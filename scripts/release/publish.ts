import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { makeArtifacts } from "./artifacts.js";
import { answers, output } from "./commands.js";
import { publishProblems } from "./problems.js";

/*
 * npm run release:publish: makes the files of a released commit in out/release and publishes the packages with provenance. It publishes
 * nothing unless the repository has a home, the commit is clean and tagged, and the changelog has the version.
 */

const root = fileURLToPath(new URL("../..", import.meta.url));
const manifest = z
  .looseObject({ version: z.string() })
  .parse(JSON.parse(await readFile(`${root}/package.json`, "utf8")));
const { version } = manifest;

const found = publishProblems({
  manifest,
  version,
  changelog: await readFile(`${root}/CHANGELOG.md`, "utf8"),
  changes: output(root, "git", "status", "--porcelain"),
  tags: output(root, "git", "tag", "--points-at", "HEAD").split("\n"),
});
if (found.length > 0) {
  process.stderr.write(`nothing is published:\n${found.map((problem) => `- ${problem}\n`).join("")}`);
  process.exit(1);
}
for (const { name, tarball } of await makeArtifacts(root, `${root}/out/release`)) {
  // From a release that failed half way.
  if (answers(root, version, "npm", "view", `${name}@${version}`, "version")) {
    process.stdout.write(`${name}@${version} is published already\n`);
    continue;
  }
  process.stdout.write(`${output(root, "npm", "publish", tarball, "--access", "public", "--provenance")}\n`);
}
