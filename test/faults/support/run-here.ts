import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Runs a command in this process's namespaces. Rejects with what it said where it fails. */
export async function runHere(command: string, ...args: readonly string[]): Promise<void> {
  await run(command, args);
}
