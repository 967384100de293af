import type { CommandContext } from "./command.js";
import { loadCommand } from "./commands.js";
import { exitCodes, messageOf } from "./errors.js";
import { runProgram } from "./program.js";
import { endProcess, exitCodeOfFailure, listenToEndingSignals, rejectWhenAborted } from "./services/lifecycle.js";
import { exemptLoopbackFromProxies } from "./services/proxies.js";
import { connectSupervisor } from "./services/service-process.js";

exemptLoopbackFromProxies(process.env);
const supervisor = connectSupervisor(process, process.env);
// A terminal sends these to every process in front; the supervisor decides for those that it started.
const interrupt = listenToEndingSignals(supervisor === undefined ? [] : ["SIGINT", "SIGHUP", "SIGQUIT"]);
if (supervisor !== undefined) {
  process.on("disconnect", () => process.exit(exitCodes.failed));
  if (!process.connected) {
    process.exit(exitCodes.failed);
  }
}
// The reader of the output may leave early: a service goes on, and an image is still written.
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});

const { env: environment, stdout, stderr } = process;
const context: CommandContext = { environment, stdout, stderr, interrupt, supervisor };
const exitCode = await run(process.argv.slice(2)).catch(reportFailure);
await endProcess(exitCode);

/** Runs the command; a supervised service receives the rest of its command line from its supervisor. */
async function run(argv: readonly string[]): Promise<number> {
  if (supervisor === undefined) {
    return runProgram(argv, context);
  }
  const ordered = supervisor.orders();
  await loadCommand(argv[0] ?? "");
  const { flags, environment: more } = await Promise.race([ordered, rejectWhenAborted(interrupt)]);
  Object.assign(process.env, more);
  return runProgram([...argv, ...flags], context);
}

/** Reports a failure on stderr, or to the supervisor, and returns its exit code. */
async function reportFailure(error: unknown): Promise<number> {
  const message = messageOf(error);
  if (error !== interrupt.reason) {
    if (supervisor === undefined) {
      process.stderr.write(`throughline: ${message}\n`);
    } else {
      await supervisor.report({ kind: "failed", message });
    }
  }
  return exitCodeOfFailure(error);
}
