import { Code } from "@connectrpc/connect";

/** Load that a response message reports of its worker. */
export interface LoadReport {
  /** Calls before this one, the one in service included. */
  readonly ahead?: number;
  /** Service time of the call, in milliseconds. Ignored if {@link isServiceMs} rejects it. */
  readonly serviceMs?: number;
}

/** A running call on a worker. */
export interface LoadCall {
  report(report: LoadReport): void;
  /** Ends the call; idempotent. Only served calls count for the service time, because errors are quick. */
  end(served: boolean): void;
}

/** Load of one worker, as observed by this process. */
export interface ReplicaLoad {
  /** Running calls of this process. */
  readonly inFlight: number;
  /** Calls of other processes before ours, as last reported. Decays without reports. */
  readonly others: number;
  /** Average service time, in milliseconds; undefined before the first served call. */
  readonly serviceMs: number | undefined;
  begin(): LoadCall;
  /**
   * Estimated time until the worker would start one more call, in milliseconds.
   * @param otherServiceMs service time to assume while the worker's own is unknown.
   */
  expectedWaitMs(otherServiceMs: number): number;
}

/** Longest accepted service time, in milliseconds: a day. */
const maxServiceMs = 86_400_000;

/** Whether a service time is valid: 0 to a day. An invalid one would stay in the average for ever. */
export function isServiceMs(ms: number): boolean {
  return ms >= 0 && ms <= maxServiceMs;
}

/** Weight of the newest call in the moving average. */
const smoothing = 0.3;
/** Minimum remaining share of the service time, however long a call has run. */
const leastRest = 0.1;

interface RunningCall {
  readonly since: number;
  serviceMs?: number | undefined;
}

/**
 * Estimate a worker's queue from this process's running calls, the reported calls of others, and the average service time.
 *
 * @param now milliseconds from any fixed point. @default performance.now
 */
export function createReplicaLoad(now: () => number = () => performance.now()): ReplicaLoad {
  const running = new Set<RunningCall>();
  let serviceMs: number | undefined;
  /** When the worker last started a call of this process, as far as observable. */
  let startedAt = 0;
  let foreign = { count: 0, at: 0 };

  /** Others' calls finish too, so the reported count decays by one per service time. */
  const foreignCalls = (service: number): number => Math.max(0, foreign.count - (now() - foreign.at) / service);

  const observe = (observedMs: number): void => {
    if (!isServiceMs(observedMs)) {
      return;
    }
    serviceMs = serviceMs === undefined ? observedMs : serviceMs + smoothing * (observedMs - serviceMs);
  };

  return {
    get inFlight() {
      return running.size;
    },
    get others() {
      return foreignCalls(serviceMs ?? Number.POSITIVE_INFINITY);
    },
    get serviceMs() {
      return serviceMs;
    },
    begin() {
      const call: RunningCall = { since: now() };
      if (running.size === 0) {
        startedAt = call.since;
      }
      running.add(call);
      return {
        report(report) {
          if (report.serviceMs !== undefined && isServiceMs(report.serviceMs)) {
            call.serviceMs = report.serviceMs;
          }
          if (report.ahead !== undefined) {
            const own = [...running].indexOf(call);
            foreign = { count: Math.max(0, report.ahead - own), at: now() };
          }
        },
        end(served) {
          const [first] = running;
          if (!running.delete(call)) {
            return;
          }
          const time = now();
          if (served) {
            // Without a report: the time since the worker was free for this call.
            observe(call.serviceMs ?? time - Math.max(call.since, startedAt));
          }
          // A call cancelled while queued did not occupy the worker.
          if (served || first === call) {
            startedAt = time;
          }
        },
      };
    },
    expectedWaitMs(otherServiceMs) {
      const service = Math.max(serviceMs ?? otherServiceMs, Number.EPSILON);
      const ahead = running.size + foreignCalls(service);
      const done = running.size === 0 ? 0 : Math.min(now() - startedAt, service * (1 - leastRest));
      return ahead * service - done;
    },
  };
}

/** Options of {@link createOutlierWatch}; see the policies. */
export interface OutlierOptions {
  readonly consecutiveFailures: number;
  readonly baseEjectionTimeMs: number;
  readonly maxEjectionTimeMs: number;
  /** Milliseconds from any fixed point. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Outlier detector of one worker. */
export interface OutlierWatch {
  /** Records the end of a call; undefined means OK. */
  ended(code: Code | undefined): void;
  /** Whether the worker is ejected: it gets calls only if no other worker can. */
  readonly ejected: boolean;
}

/** Codes that count as a worker's failure. Rejections, invalid requests, deadlines and cancellations do not. */
const failures: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Internal, Code.Unknown, Code.DataLoss]);

/**
 * Eject a worker for a while after consecutive failures. A worker that fails at once is always free, so it would attract every call.
 * Each further ejection lasts longer.
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
