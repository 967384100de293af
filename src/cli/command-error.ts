import { type EndingSignal, exitCodeOf, exitCodes } from "./exit-codes.js";

/** A failure that is told to the user in one line, without a stack. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
  readonly exitCode: number;

  constructor(message: string, options: ErrorOptions & { readonly exitCode?: number } = {}) {
    super(message, options);
    this.exitCode = options.exitCode ?? exitCodes.failed;
  }
}

/** A flag, a variable or an argument that makes no sense; the message names it and the value given. */
export function usageError(message: string): CommandError {
  return new CommandError(message, { exitCode: exitCodes.usage });
}

/** The user ended the command. Reason of {@link CommandContext.interrupt}. */
export function interruptedBy(signal: EndingSignal): CommandError {
  return new CommandError("interrupted", { exitCode: exitCodeOf(signal) });
}
