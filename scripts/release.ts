import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { packPackages } from "./packages/pack.js";
import { releaseProblems } from "./release-problems.js";

/*
 * npm run release [-- --dry-run]: packs the packages and publishes each with provenance. It publishes nothing unless the repository has a home,
 * the commit is clean and tagged, and the changelog has the version.
 */

const root = fileURLToPath(new URL("..", import.meta.url));
const dryRun = process.argv.includes("--dry-run");
const manifest = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));
const version: string = manifest.version;
const shell = process.platform === "win32";

function output(command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: "utf8", shell });
  if (error !== undefined || status !== 0) {
    throw new Error(`${command} ${args.join(" ")} failed: ${error?.message ?? stderr}`);
  }
  return stdout.trim();
}

/** Whether the registry has the version already, from a release that failed half way. */
function isPublished(name: string): boolean {
  const { status, stdout } = spawnSync("npm", ["view", `${name}@${version}`, "version"], {
    cwd: root,
    encoding: "utf8",
    shell,
  });
  return status === 0 && stdout.trim() === version;
}

const found = releaseProblems({
  manifest,
  changelog: readFileSync(`${root}/CHANGELOG.md`, "utf8"),
  changes: output("git", "status", "--porcelain"),
  tags: output("git", "tag", "--points-at", "HEAD").split("\n"),
});
if (found.length > 0) {
  process.stderr.write(`nothing is published:\n${found.map((problem) => `- ${problem}\n`).join("")}`);
  process.exit(1);
}
for (const { name, tarball } of await packPackages(`${root}/out/packages`)) {
  if (isPublished(name)) {
    process.stdout.write(`${name}@${version} is published already\n`);
    continue;
  }
  const options = ["--access", "public", ...(dryRun ? ["--dry-run"] : ["--provenance"])];
  process.stdout.write(`${output("npm", "publish", tarball, ...options)}\n`);
}
