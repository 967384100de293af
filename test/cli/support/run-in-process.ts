import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { CliError } from "../../../src/cli/errors.js";
import { runProgram } from "../../../src/cli/program.js";

/**
 * Calls `run` with variables in this process's environment, in place of its own of this project. Options are read before the first wait, so
 * that tests beside this one see none of them.
 */
export function withVariables<Result>(variables: Readonly<Record<string, string>>, run: () => Result): Result {
  const before = { ...process.env };
  for (const name of Object.keys(process.env).filter((each) => each.startsWith("THROUGHLINE_"))) {
    delete process.env[name];
  }
  Object.assign(process.env, variables);
  try {
    return run();
  } finally {
    for (const name of Object.keys(process.env).filter((each) => !(each in before))) {
      delete process.env[name];
    }
    Object.assign(process.env, before);
  }
}

/** How a command ended that ran in this process. */
export interface ProgramEnd {
  readonly code: number;
  /** Error message for the user. */
  readonly message: string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProgramRun {
  /** @default empty */
  readonly environment?: Readonly<Record<string, string>>;
  /** Whether both streams are terminals. @default false */
  readonly isTTY?: boolean;
  /** Of both streams. @default utf8 */
  readonly encoding?: BufferEncoding;
  /** @default 80 */
  readonly columns?: number;
}

/** Runs the command line in this process. */
export async function runInProcess(args: readonly string[], run: ProgramRun = {}): Promise<ProgramEnd> {
  const { environment = {}, isTTY = false, columns = 80, encoding = "utf8" } = run;
  const open = () => Object.assign(new PassThrough({ encoding }), isTTY ? { isTTY, columns } : {});
  const [stdout, stderr] = [open(), open()];
  const interrupt = new AbortController().signal;
  const context = { environment, stdout, stderr, interrupt, supervisor: undefined };
  const end = await withVariables(environment, () => runProgram(args, context)).then(
    (code) => ({ code, message: "" }),
    (error: unknown) => {
      assert.ok(error instanceof CliError, String(error));
      return { code: error.exitCode, message: error.message };
    },
  );
  return { ...end, stdout: String(stdout.read() ?? ""), stderr: String(stderr.read() ?? "") };
}
