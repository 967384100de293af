import pino, { type Level, type Logger } from "pino";
import type { Output } from "../command-context.js";

/** A logger of JSON lines on stderr, each written at once, so that the last words of a process are not lost. */
export function createLogger(name: string, level: Level | "silent", stderr: Output): Logger {
  return pino({ name, level, base: { name } }, { write: (line) => stderr.write(line) });
}
