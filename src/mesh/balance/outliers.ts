import { Code } from "@connectrpc/connect";

/** Options of {@link createOutlierWatch}; see the policies. */
export interface OutlierOptions {
  readonly consecutiveFailures: number;
  readonly baseEjectionTimeMs: number;
  readonly maxEjectionTimeMs: number;
  /** Milliseconds from any fixed point. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Watches the outcomes of one worker's calls. */
export interface OutlierWatch {
  /** A call ended; undefined means OK. */
  ended(code: Code | undefined): void;
  /** Whether the worker is ejected: it gets no calls while others can take them. */
  readonly ejected: boolean;
}

/** What a worker does wrong. A refusal, a caller's mistake, a deadline or a caller that left say nothing against it. */
const failures: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Internal, Code.Unknown, Code.DataLoss]);

/**
 * Ejects a worker for a while after so many failures in a row: one that fails at once is always free, so it would draw the calls of all.
 * Ejections become longer while it goes on failing.
 *
 * @see https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md
 */
export function createOutlierWatch(options: OutlierOptions): OutlierWatch {
  const { consecutiveFailures, baseEjectionTimeMs, maxEjectionTimeMs, now = () => performance.now() } = options;
  let inRow = 0;
  let ejections = 0;
  let until = Number.NEGATIVE_INFINITY;
  return {
    ended(code) {
      if (code === undefined) {
        inRow = 0;
        ejections = 0;
      } else if (failures.has(code)) {
        inRow++;
        if (inRow >= consecutiveFailures && until <= now()) {
          ejections++;
          until = now() + Math.min(baseEjectionTimeMs * ejections, maxEjectionTimeMs);
        }
      }
    },
    get ejected() {
      return until > now();
    },
  };
}
