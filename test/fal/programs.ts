import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runProgram } from "../interop/support/run-program.js";
import { installNpmPackages } from "../support/npm-packages.js";
import { pythonEnvironment } from "../support/python-environment.js";

const cache = fileURLToPath(new URL("../../node_modules/.cache/throughline-fal/", import.meta.url));
const packages = ["@fal-ai/client@1.10.1", "@ai-sdk/fal@2.0.59", "ai@6.0.326"];

/** Releases of Python's client: the newest, and the oldest that people have. */
export type PythonRelease = "1.0.3" | "0.5.9";

/** Installs JavaScript's clients where they are not yet. Programs in folders below their place find them. */
export async function installJavaScriptClients(): Promise<void> {
  await installNpmPackages(cache, packages);
}

let runs = 0;

async function run(program: string, extension: string, code: string, env: Readonly<Record<string, string>>) {
  const folder = join(cache, `run-${process.pid}-${runs++}`);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `program.${extension}`);
  writeFileSync(file, code);
  const { code: exit, stdout, tail } = await runProgram(program, [file], { cwd: folder, timeoutMs: 60_000, env });
  assert.equal(exit, 0, tail);
  return stdout.toString().trim().split("\n");
}

/** Runs a Node program, and returns the lines that it printed. */
export function runNode(code: string): Promise<readonly string[]> {
  return run(process.execPath, "mjs", code, { FAL_KEY: "any:key" });
}

/**
 * Runs a Python program with a release of fal's client, and returns the lines that it printed.
 *
 * @throws ToolMissingError without Python or its venv module.
 */
export async function runPython(
  release: PythonRelease,
  code: string,
  env: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  const python = await pythonEnvironment(fileURLToPath(new URL(`requirements-${release}.txt`, import.meta.url)));
  return run(python, "py", code, { FAL_KEY: "any:key", PYTHONDONTWRITEBYTECODE: "1", ...env });
}
