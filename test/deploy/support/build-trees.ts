import { cpSync, mkdirSync, readdirSync, statSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { runProgram } from "../../interop/support/run-program.js";
import { buildCommands, contextPaths } from "./dockerfile.js";
import { root } from "./manifests.js";

/**
 * Does what the stage `build` of the Dockerfile does, in a folder with only the files of the build context. Packages are those of the
 * checkout, which `npm ci` installed from the same lock file.
 */
export async function buildCheckout(folder: string): Promise<void> {
  const paths = contextPaths().flatMap((path) =>
    path.includes("*") ? readdirSync(root).filter((name) => name.match(`^${path.replace("*", ".*")}$`)) : [path],
  );
  for (const path of paths) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(root, path), join(folder, path), { recursive: true });
  }
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const commands = buildCommands().filter(({ stage }) => stage === "build");
  if (!commands[0]?.command.startsWith("npm ci ")) {
    throw new Error("the build does not begin with npm ci");
  }
  for (const { command } of commands.slice(1)) {
    await runInFolder(command, folder);
  }
}

/** Does what the stage of a role does, and returns the tree that it makes for `/app`. */
export async function stageTree(checkout: string, role: string, target: string): Promise<string> {
  const commands = buildCommands().filter(({ stage }) => stage === `stage-${role}`);
  for (const { command } of commands) {
    await runInFolder(command.replace("/staged", target), checkout);
  }
  const script = join(checkout, "deploy/docker/healthcheck.mjs");
  cpSync(script, join(target, "healthcheck.mjs"));
  return target;
}

async function runInFolder(command: string, folder: string): Promise<void> {
  const { code, tail } = await runProgram("sh", ["-c", command], { cwd: folder, timeoutMs: 480_000 });
  if (code !== 0) {
    throw new Error(`${command} failed:\n${tail}`);
  }
}

/** Names of all files below a folder. */
export const filesBelow = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));

/** Megabytes of the files below a folder. */
export const megabytes = (folder: string): number =>
  filesBelow(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0) / 1e6;
