import * as grpc from "@grpc/grpc-js";

/** Target of grpc-js's log lines: a pino logger. */
export interface GrpcLog {
  error(fields: object, message: string): void;
  info(fields: object, message: string): void;
  debug(fields: object, message: string): void;
}

const repeatMs = 60_000;
const maxRemembered = 100;

/** Redirect grpc-js's log lines from stderr to this log, for the whole process. */
export function writeGrpcLogTo(log: GrpcLog): void {
  grpc.setLogger(createGrpcLogger(log));
}

/**
 * Create a logger for grpc-js. `GRPC_VERBOSITY` and `GRPC_TRACE` set what it receives. The same error is logged at most once a minute,
 * because grpc-js reports it with each connection attempt.
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
