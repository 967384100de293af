import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { CommandError } from "../../../src/cli/command-error.js";
import { runProgram } from "../../../src/cli/program.js";

/** How a command ended that ran in this process. */
export interface ProgramEnd {
  readonly code: number;
  /** What the user is told where it failed. */
  readonly message: string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProgramRun {
  /** @default empty */
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether both streams are terminals. @default false */
  readonly isTTY?: boolean;
  /** @default 80 */
  readonly columns?: number;
}

/** Runs the command line in this process. */
export async function runInProcess(args: readonly string[], run: ProgramRun = {}): Promise<ProgramEnd> {
  const { environment = {}, isTTY = false, columns = 80 } = run;
  const open = () => Object.assign(new PassThrough({ encoding: "utf8" }), isTTY ? { isTTY, columns } : {});
  const [stdout, stderr] = [open(), open()];
  const interrupt = new AbortController().signal;
  const context = { environment, stdout, stderr, interrupt, supervisor: undefined };
  const end = await runProgram(args, context).then(
    (code) => ({ code, message: "" }),
    (error: unknown) => {
      assert.ok(error instanceof CommandError, String(error));
      return { code: error.exitCode, message: error.message };
    },
  );
  return { ...end, stdout: String(stdout.read() ?? ""), stderr: String(stderr.read() ?? "") };
}
