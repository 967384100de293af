import type { CommandContext } from "./command-context.js";
import { loadCommand } from "./commands.js";
import { exitCodes } from "./exit-codes.js";
import { exemptLoopbackFromProxies } from "./network/proxy-environment.js";
import { endProcess, exitCodeOfFailure } from "./process/end-process.js";
import { listenToEndingSignals } from "./process/process-signals.js";
import { connectSupervisor } from "./process/supervisor.js";
import { rejectWhenAborted } from "./process/when-aborted.js";
import { runProgram } from "./program.js";

exemptLoopbackFromProxies(process.env);
const supervisor = connectSupervisor(process, process.env);
// A terminal's Ctrl-C goes to every process in front; the supervisor decides for those that it started.
const interrupt = listenToEndingSignals(new Set(supervisor === undefined ? [] : ["SIGINT"]));
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
  interrupt,
  supervisor,
};

const exitCode = await run(process.argv.slice(2)).catch(reportFailure);
await endProcess(exitCode);

/** Runs what the user typed; a supervised service gets the rest of its command line from its supervisor. */
async function run(argv: readonly string[]): Promise<number> {
  if (supervisor === undefined) {
    return runProgram(argv, context);
  }
  const ordered = supervisor.orders();
  await loadCommand(argv[0] ?? "");
  const { flags, environment } = await Promise.race([ordered, rejectWhenAborted(interrupt)]);
  return runProgram([...argv, ...flags], { ...context, environment: { ...process.env, ...environment } });
}

/** Tells a failure in one line, to the supervisor where there is one, and gives the exit code for it. */
async function reportFailure(error: unknown): Promise<number> {
  const message = error instanceof Error ? error.message : String(error);
  if (error !== interrupt.reason) {
    if (supervisor === undefined) {
      process.stderr.write(`throughline: ${message}\n`);
    } else {
      await supervisor.report({ kind: "failed", message });
    }
  }
  return exitCodeOfFailure(error);
}
