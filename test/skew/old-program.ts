import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import * as z from "zod";
import { runProgram } from "../interop/support/run-program.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const cache = join(root, "node_modules/.cache/throughline-skew");

/** The last commit of the jobs' issue: what runs beside this tree while a deployment is updated. */
export const oldCommit = "b97faffa8fe35574698defae08f06f5cfabcb874";

/** What the program needs of the tree. */
const parts = ["models", "package.json", "package-lock.json", "proto", "src", "third_party/proto", "buf.yaml"];

/** Why the old commit cannot be built; false where it is in this clone. */
export async function whyNoOldCommit(): Promise<string | false> {
  const { code, errorCode } = await runProgram("git", ["cat-file", "-e", `${oldCommit}^{commit}`], { cwd: root });
  if (errorCode === "ENOENT") {
    return "git is not installed";
  }
  return code === 0 ? false : `this clone has no commit ${oldCommit.slice(0, 7)}: it is shallow; git fetch --unshallow`;
}

/** An older version of the program. */
export interface OldProgram {
  /** Its tree. */
  readonly folder: string;
  /** File of the command line, compiled. */
  readonly entry: string;
}

/** Extracts and compiles the old commit, once. */
export async function oldProgram(): Promise<OldProgram> {
  const folder = join(cache, oldCommit);
  const entry = join(folder, "compiled/src/cli/main.js");
  if (!existsSync(entry)) {
    const partial = `${folder}.partial`;
    rmSync(partial, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    const archive = join(cache, `${oldCommit}.tar`);
    await run("git", ["archive", "--output", archive, oldCommit, ...parts], root);
    await run("tar", ["-xf", archive, "-C", partial], root);
    rmSync(archive);
    await addPackages(partial);
    await compile(partial);
    renameSync(partial, folder);
  }
  return { folder, entry };
}

const packages = z.object({ dependencies: z.record(z.string(), z.string()) });
const dependenciesOf = (folder: string) =>
  packages.parse(JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))).dependencies;

/** This tree's packages if they are of the same versions, else the old ones. */
async function addPackages(folder: string): Promise<void> {
  const installed = dependenciesOf(root);
  const isSame = Object.entries(dependenciesOf(folder)).every(([name, version]) => installed[name] === version);
  if (isSame) {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  } else {
    await run("npm", ["ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts=false"], folder);
  }
}

async function compile(folder: string): Promise<void> {
  const sources = readdirSync(join(folder, "src"), { recursive: true, encoding: "utf8" });
  await build({
    absWorkingDir: folder,
    entryPoints: sources.filter((name) => name.endsWith(".ts")).map((name) => join("src", name)),
    outbase: "src",
    outdir: "compiled/src",
    format: "esm",
    platform: "node",
    target: "node20",
  });
  for (const name of ["models", "node_modules", "package.json"]) {
    symlinkSync(join("..", name), join(folder, "compiled", name));
  }
}

/** Runs a program that must succeed. */
export async function run(program: string, args: readonly string[], cwd: string): Promise<void> {
  const { code, errorCode, tail } = await runProgram(program, args, { cwd, timeoutMs: 300_000 });
  assert.equal(code, 0, `${program} ${args[0]}: ${errorCode ?? ""} ${tail}`);
}
