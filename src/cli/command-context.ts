import type { Environment } from "../trace/telemetry/environment.js";
import type { Supervisor } from "./process/supervisor.js";

/** Where a command writes. */
export interface Output extends NodeJS.WritableStream {
  /** Whether a person sees it on a terminal. */
  readonly isTTY?: boolean | undefined;
  /** Width of the terminal, in characters. */
  readonly columns?: number | undefined;
}

/** All that a command knows of the process that it runs in. */
export interface CommandContext {
  readonly environment: Environment;
  /** The result, and nothing else. */
  readonly stdout: Output;
  /** Progress, logs and errors. */
  readonly stderr: Output;
  /** Aborted by the first SIGINT or SIGTERM; the reason is the CommandError to end with. */
  readonly interrupt: AbortSignal;
  /** Present in a process that `demo` or `dev` started. */
  readonly supervisor: Supervisor | undefined;
}
