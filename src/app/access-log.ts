import type { Logger } from "pino";
import type { AccessRejection, OnAccessRejected, RejectionReason } from "../mesh/access/rejections.js";

/** Log of rejected access. */
export interface AccessLog {
  readonly onRejected: OnAccessRejected;
  /** Writes what is counted and not yet logged. */
  close(): void;
}

/** Options of {@link createAccessLog}. */
export interface AccessLogOptions {
  readonly logger: Pick<Logger, "info" | "warn">;
  /** Milliseconds within which equal rejections are counted. @default 60,000 */
  readonly windowMs?: number;
  /** Rejections of one reason that are logged one by one in a window. @default 20 */
  readonly maxOfReason?: number;
}

/** Event name of each line. */
const event = "access.rejected";

/** A caller at a limit of its own is no attempt to get more than it may have. */
const levels: Readonly<Partial<Record<RejectionReason, "info">>> = { rate_limit: "info", concurrency_limit: "info" };

/** Rejections of one reason in the current window. */
interface Reason {
  /** Logged ones, each with the number of equal ones that followed. */
  readonly logged: Map<string, { readonly rejection: AccessRejection; more: number }>;
  /** All others. */
  notLogged: number;
}

/**
 * Create a log of rejected access: one line for the first of equal rejections, and at the end of its window one with the number of those that
 * followed. `count` of all lines is the number of rejections, and a flood writes a bounded number of lines.
 */
export function createAccessLog(options: AccessLogOptions): AccessLog {
  const { logger, windowMs = 60_000, maxOfReason = 20 } = options;
  const reasons = new Map<RejectionReason, Reason>();
  let timer: NodeJS.Timeout | undefined;

  const write = (rejection: AccessRejection, count: number, message: string): void =>
    logger[levels[rejection.reason] ?? "warn"]({ event, ...rejection, count }, message);

  const endWindow = (): void => {
    clearTimeout(timer);
    timer = undefined;
    for (const [reason, { logged, notLogged }] of reasons) {
      for (const { rejection, more } of logged.values()) {
        if (more > 0) {
          write(rejection, more, "access rejected again");
        }
      }
      if (notLogged > 0) {
        write({ reason }, notLogged, "access rejected, more than are logged one by one");
      }
    }
    reasons.clear();
  };

  return {
    onRejected(rejection) {
      if (timer === undefined) {
        timer = setTimeout(endWindow, windowMs);
        timer.unref();
      }
      const key = JSON.stringify(Object.entries(rejection).toSorted());
      let reason = reasons.get(rejection.reason);
      if (reason === undefined) {
        reason = { logged: new Map(), notLogged: 0 };
        reasons.set(rejection.reason, reason);
      }
      const equal = reason.logged.get(key);
      if (equal !== undefined) {
        equal.more++;
      } else if (reason.logged.size < maxOfReason) {
        reason.logged.set(key, { rejection, more: 0 });
        write(rejection, 1, "access rejected");
      } else {
        reason.notLogged++;
      }
    },
    close: endWindow,
  };
}
