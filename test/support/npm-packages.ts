import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../interop/support/run-program.js";

/** Installs npm packages into a folder where they are not yet. Programs in folders below it find them. */
export async function installNpmPackages(folder: string, packages: readonly string[]): Promise<void> {
  const stamp = join(folder, "installed.txt");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === packages.join("\n")) {
    return;
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), `{"private": true, "type": "module"}\n`);
  const { code, tail } = await runProgram("npm", ["install", "--save-exact", ...packages], {
    cwd: folder,
    timeoutMs: 300_000,
  });
  assert.equal(code, 0, tail);
  writeFileSync(stamp, packages.join("\n"));
}
