import { spawnSync } from "node:child_process";

/** npm is a script of the shell on Windows. */
const shell = process.platform === "win32";

/** Runs a command and returns its output. @throws Error with what it wrote if it fails. */
export function output(folder: string, command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: folder, encoding: "utf8", shell });
  if (error !== undefined || status !== 0) {
    throw new Error(`${command} ${args.join(" ")} failed: ${error?.message ?? stderr}`);
  }
  return stdout.trim();
}

/** Whether a command succeeds with this output. */
export function answers(folder: string, expected: string, command: string, ...args: readonly string[]): boolean {
  const { status, stdout } = spawnSync(command, args, { cwd: folder, encoding: "utf8", shell });
  return status === 0 && stdout.trim() === expected;
}
