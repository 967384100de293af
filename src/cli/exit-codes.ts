import { constants } from "node:os";

/** How a command ends, as the shell sees it. */
export const exitCodes = {
  done: 0,
  /** Something that was asked for could not be done. */
  failed: 1,
  /** Nothing was tried: a flag, a variable or an argument makes no sense. */
  usage: 2,
} as const;

/** Signals that end a command. */
export type EndingSignal = "SIGINT" | "SIGTERM";

/** What a shell reports for a process that a signal ended: 130 for SIGINT, 143 for SIGTERM. */
export function exitCodeOf(signal: EndingSignal): number {
  return 128 + constants.signals[signal];
}
