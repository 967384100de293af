import * as grpc from "@grpc/grpc-js";

/** Where grpc-js's own lines go: a pino logger. */
export interface GrpcLog {
  error(fields: object, message: string): void;
  info(fields: object, message: string): void;
  debug(fields: object, message: string): void;
}

const repeatMs = 60_000;
const maxRemembered = 100;

/** Makes grpc-js, which otherwise prints lines of its own on stderr, write to this log; once for the whole process. */
export function writeGrpcLogTo(log: GrpcLog): void {
  grpc.setLogger(createGrpcLogger(log));
}

/**
 * A logger for grpc-js. What it is told, and how much, is grpc-js's own affair (`GRPC_VERBOSITY`, `GRPC_TRACE`). The same error is written
 * once a minute at most: it comes with each try to connect.
 *
 * @param now milliseconds from any fixed point.
 */
export function createGrpcLogger(log: GrpcLog, now: () => number = () => performance.now()) {
  const writtenAt = new Map<string, number>();
  const isRepeated = (message: string): boolean => {
    const at = now();
    if (at - (writtenAt.get(message) ?? Number.NEGATIVE_INFINITY) < repeatMs) {
      return true;
    }
    if (writtenAt.size >= maxRemembered) {
      writtenAt.clear();
    }
    writtenAt.set(message, at);
    return false;
  };
  const write = (level: keyof GrpcLog) => (message?: unknown) => {
    const line = String(message);
    if (level !== "error" || !isRepeated(line)) {
      log[level]({ component: "grpc-js" }, line);
    }
  };
  return { error: write("error"), info: write("info"), debug: write("debug") };
}
