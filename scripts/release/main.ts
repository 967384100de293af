import { appendFile, cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { z } from "zod";
import { makeArtifacts } from "./artifacts.js";
import { releaseChanges } from "./changelog.js";
import { output } from "./commands.js";
import { billOfMaterials, licenceProblems } from "./dependencies.js";
import { makeNotice } from "./notice.js";
import { homeProblems, versionProblems } from "./problems.js";

/*
 * npm run release -- VERSION: makes a commit with the version, its changelog and its NOTICE, tags it, and makes the files of the release in
 * out/release. Pushing the tag has the workflows publish packages, files and images. With --dry-run, all of it happens in a temporary clone, whose
 * files alone are kept.
 */

const root = fileURLToPath(new URL("../..", import.meta.url));
const artifacts = join(root, "out/release");
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { "dry-run": { type: "boolean", default: false }, "without-home": { type: "boolean", default: false } },
});
const [next = ""] = positionals;
const read = (path: string) => readFile(join(root, path), "utf8");
const say = (text: string) => process.stdout.write(`${text}\n`);

/** Files that name the version besides package.json, package-lock.json and CHANGELOG.md. */
const versioned = [
  { path: "deploy/kubernetes/overlays/gpu/kustomization.yaml", form: (version: string) => `newTag: ${version}` },
  { path: "docs/getting-started.md", form: (version: string) => `throughline-${version}.tgz` },
];

async function release(version: string, manifest: Readonly<Record<string, unknown>>): Promise<void> {
  const problems = [
    ...versionProblems(next, {
      version,
      changes: output(root, "git", "status", "--porcelain"),
      tags: output(root, "git", "tag", "--list").split("\n"),
    }),
    ...(flags["without-home"] ? [] : homeProblems(manifest)),
    ...licenceProblems((await billOfMaterials(root)).dependencies),
  ];
  if (problems.length > 0) {
    throw new Error(`nothing is released:\n${problems.map((problem) => `- ${problem}`).join("\n")}`);
  }
  try {
    await writeVersion(version);
    const packages = await makeArtifacts(root, artifacts);
    for (const { name, tarball, size } of packages) {
      output(root, "npm", "publish", tarball, "--dry-run", "--access", "public");
      say(`${name}  ${(size / 1024).toFixed(0)} KiB`);
    }
  } catch (error) {
    // It had no changes before.
    output(root, "git", "checkout", "--quiet", "--", ".");
    throw error;
  }
  output(root, "git", "commit", "--all", "--message", `Release ${next}`);
  output(root, "git", "tag", "--annotate", `v${next}`, "--message", `Throughline ${next}`);
  say(output(root, "git", "show", "--stat", "--format=%s", "HEAD"));
}

/** Puts the next version into all files that name it. */
async function writeVersion(version: string): Promise<void> {
  const today = new Date().toISOString().slice(0, 10);
  await writeFile(join(root, "CHANGELOG.md"), releaseChanges(await read("CHANGELOG.md"), next, today));
  output(root, "npm", "version", next, "--no-git-tag-version", "--allow-same-version");
  for (const { path, form } of versioned) {
    const text = await read(path);
    if (!text.includes(form(version))) {
      throw new Error(`${path} does not name ${form(version)}`);
    }
    await writeFile(join(root, path), text.replaceAll(form(version), form(next)));
  }
  await writeFile(join(root, "NOTICE"), await makeNotice(root));
}

/** Releases a clone of the last commit, and keeps its files. */
async function rehearse(manifest: Readonly<Record<string, unknown>>): Promise<void> {
  const clone = await mkdtemp(join(tmpdir(), "throughline-release-"));
  try {
    output(root, "git", "clone", "--quiet", "--no-local", root, clone);
    await symlink(join(root, "node_modules"), join(clone, "node_modules"), "junction");
    // A link is no folder to .gitignore.
    await appendFile(join(clone, ".git/info/exclude"), "node_modules\n");
    say(output(clone, process.execPath, "--import", "tsx", "scripts/release/main.ts", next, "--without-home"));
    await rm(artifacts, { recursive: true, force: true });
    await cp(join(clone, "out/release"), artifacts, { recursive: true });
  } finally {
    await rm(clone, { recursive: true, force: true });
  }
  for (const problem of homeProblems(manifest)) {
    say(`a release would stop: ${problem}`);
  }
}

const manifest = z.looseObject({ version: z.string() }).parse(JSON.parse(await read("package.json")));
try {
  if (flags["dry-run"]) {
    await rehearse(manifest);
    say("dry run: nothing is committed, tagged or published; the files of the release are in out/release");
    say(
      "the images are built by .github/workflows/images.yml from the tag; npm run test:deploy builds their trees here",
    );
  } else {
    await release(manifest.version, manifest);
    say(`v${next} is committed and tagged here. Publish it: git push --follow-tags`);
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
