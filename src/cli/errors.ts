import { constants } from "node:os";

/** Exit codes of the commands. */
export const exitCodes = {
  done: 0,
  /** The command failed. */
  failed: 1,
  /** Nothing was tried: an option, a variable or an argument is wrong. */
  usage: 2,
} as const;

/** Signals that end a command. */
export const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
export type EndingSignal = (typeof endingSignals)[number];

/** The shell's exit code for a process that a signal ended: 130 for SIGINT, 143 for SIGTERM. */
export function exitCodeOf(signal: EndingSignal): number {
  return 128 + constants.signals[signal];
}

/** An error for the user, printed without a stack. */
export class CliError extends Error {
  override readonly name: string = "CliError";
  readonly exitCode: number;

  constructor(message: string, options: ErrorOptions & { readonly exitCode?: number } = {}) {
    super(message, options);
    this.exitCode = options.exitCode ?? exitCodes.failed;
  }
}

/** A wrong option, variable or argument; the message names it and its value. */
export function usageError(message: string, options: ErrorOptions = {}): CliError {
  return new CliError(message, { ...options, exitCode: exitCodes.usage });
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
