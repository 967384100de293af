#!/usr/bin/env node
import type { CommandContext } from "./command-context.js";
import { CommandError, interruptedBy } from "./command-error.js";
import { loadCommand } from "./commands.js";
import { type EndingSignal, exitCodeOf, exitCodes } from "./exit-codes.js";
import { runProgram } from "./program.js";
import { connectSupervisor } from "./supervisor.js";
import { rejectWhenAborted } from "./when-aborted.js";

/** The only place that reads the process's environment and ends the process. */

/** One Ctrl-C may reach a process twice: from the terminal, and passed on by the program that started it. */
const sameKeypressMs = 500;

const interrupt = new AbortController();
const supervisor = connectSupervisor(process, process.env);
let interruptedAt = 0;

for (const signal of ["SIGINT", "SIGTERM"] as const satisfies EndingSignal[]) {
  process.on(signal, () => {
    // A terminal's Ctrl-C goes to every process in front; the supervisor decides for those that it started.
    if (supervisor !== undefined && signal === "SIGINT") {
      return;
    }
    if (!interrupt.signal.aborted) {
      interruptedAt = performance.now();
      interrupt.abort(interruptedBy(signal));
    } else if (performance.now() - interruptedAt > sameKeypressMs) {
      process.exit(exitCodeOf(signal));
    }
  });
}
if (supervisor !== undefined) {
  process.on("disconnect", () => process.exit(exitCodes.failed));
  if (!process.connected) {
    process.exit(exitCodes.failed);
  }
}
// Whoever reads the output may leave early; a service serves on, and a picture is written all the same.
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});

const context: CommandContext = {
  environment: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  interrupt: interrupt.signal,
  supervisor,
};

const exitCode = await run(process.argv.slice(2)).catch(reportFailure);
await Promise.all([flush(process.stdout), flush(process.stderr)]);
process.exit(exitCode);

/** Runs what the user typed; a supervised service gets the rest of its command line from its supervisor. */
async function run(argv: readonly string[]): Promise<number> {
  if (supervisor === undefined) {
    return runProgram(argv, context);
  }
  const ordered = supervisor.orders();
  await loadCommand(argv[0] ?? "");
  const { flags, environment } = await Promise.race([ordered, rejectWhenAborted(interrupt.signal)]);
  return runProgram([...argv, ...flags], { ...context, environment: { ...process.env, ...environment } });
}

/** Tells a failure in one line, to the supervisor where there is one, and gives the exit code for it. */
async function reportFailure(error: unknown): Promise<number> {
  const message = error instanceof Error ? error.message : String(error);
  if (error !== interrupt.signal.reason) {
    if (supervisor === undefined) {
      process.stderr.write(`throughline: ${message}\n`);
    } else {
      await supervisor.report({ kind: "failed", message });
    }
  }
  return error instanceof CommandError ? error.exitCode : exitCodes.failed;
}

/** Resolves when all that was written has left, or when nobody reads it any more. */
function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writable) {
      stream.write("", () => resolve());
    } else {
      resolve();
    }
  });
}
