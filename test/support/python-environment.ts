import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ToolMissingError } from "../interop/support/part.js";
import { runProgram } from "../interop/support/run-program.js";

const cache = fileURLToPath(new URL("../../node_modules/.cache/throughline-python/", import.meta.url));

/**
 * Makes a virtual environment with the packages of a requirements file, once for each content of the file.
 *
 * @returns path of its interpreter.
 * @throws ToolMissingError without Python or its venv module.
 */
export async function pythonEnvironment(requirements: string): Promise<string> {
  const digest = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 12);
  const environment = join(cache, digest);
  if (!existsSync(environment)) {
    mkdirSync(cache, { recursive: true });
    await makeEnvironment(environment, requirements);
  }
  return join(environment, "bin", "python");
}

async function makeEnvironment(environment: string, requirements: string): Promise<void> {
  const partial = `${environment}.partial`;
  rmSync(partial, { recursive: true, force: true });
  const { code, errorCode, tail } = await runProgram("python3", ["-m", "venv", partial], { timeoutMs: 120_000 });
  if (errorCode === "ENOENT") {
    throw new ToolMissingError("python3 is not installed");
  }
  if (code !== 0) {
    throw new ToolMissingError(`python3 cannot make a virtual environment with pip:\n${tail}`);
  }
  process.stdout.write(`installing ${requirements} into a virtual environment\n`);
  const install = ["-m", "pip", "install", "--quiet", "--requirement", requirements];
  const installed = await runProgram(join(partial, "bin", "python"), install, { timeoutMs: 600_000 });
  if (installed.code !== 0) {
    throw new Error(`pip install failed:\n${installed.tail}`);
  }
  renameSync(partial, environment);
}
