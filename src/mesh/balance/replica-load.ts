import { Code } from "@connectrpc/connect";

/** What an answer tells of its worker's load; an app knows which of its messages do. */
export interface LoadReport {
  /** Calls that the worker will serve before the one that is told, the one in service included. */
  readonly ahead?: number;
  /** Time that the worker spent on the call itself, in milliseconds. One that {@link isServiceMs} does not take is as good as none. */
  readonly serviceMs?: number;
}

/** One call on a worker, from its beginning to its end. */
export interface LoadCall {
  report(report: LoadReport): void;
  /** Ends the call, once. Only a call that was served counts for the worker's speed: errors are quick everywhere. */
  end(served: boolean): void;
}

/** What this process knows of one worker's load. */
export interface ReplicaLoad {
  /** Calls of this process that are not ended. */
  readonly inFlight: number;
  /** Calls of other processes before ours, as far as reports told of them; without updates they become fewer. */
  readonly others: number;
  /** Average time that the worker needs for a call, in milliseconds; undefined before the first was served. */
  readonly serviceMs: number | undefined;
  begin(): LoadCall;
  /**
   * Estimated time until the worker would begin with a further call, in milliseconds.
   * @param otherServiceMs service time to reckon with where its own is not known yet.
   */
  expectedWaitMs(otherServiceMs: number): number;
}

/** Longest time of service that is believed, in milliseconds: a day. */
const maxServiceMs = 86_400_000;

/** Whether a time can be a call's: a number from 0 to a day. One that is none would stay in the average for ever. */
export function isServiceMs(ms: number): boolean {
  return ms >= 0 && ms <= maxServiceMs;
}

/** Weight of the newest call in the average; the last handful count. */
const smoothing = 0.3;
/** Share of its service time that a call is thought to need still, however long it has taken. */
const leastRest = 0.1;

interface RunningCall {
  readonly since: number;
  serviceMs?: number | undefined;
}

/**
 * Estimates a worker's queue from what is known of it: the calls of this process that are there, the ones of others as far as reports told
 * of them, and the average time of service.
 *
 * @param now milliseconds from any fixed point. @default performance.now
 */
export function createReplicaLoad(now: () => number = () => performance.now()): ReplicaLoad {
  const running = new Set<RunningCall>();
  let serviceMs: number | undefined;
  /** When the worker last turned to a call of ours, as far as can be seen. */
  let turnedAt = 0;
  let foreign = { count: 0, at: 0 };

  /** Others' calls are worked off too: without updates they are thought to become fewer. */
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
        turnedAt = call.since;
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
            // Where the worker does not say it: the time since it was free for this call.
            observe(call.serviceMs ?? time - Math.max(call.since, turnedAt));
          }
          // A call that left while it waited has not moved the worker on.
          if (served || first === call) {
            turnedAt = time;
          }
        },
      };
    },
    expectedWaitMs(otherServiceMs) {
      const service = Math.max(serviceMs ?? otherServiceMs, Number.EPSILON);
      const ahead = running.size + foreignCalls(service);
      const done = running.size === 0 ? 0 : Math.min(now() - turnedAt, service * (1 - leastRest));
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

/** Watches the outcomes of one worker's calls. */
export interface OutlierWatch {
  /** A call ended; undefined means OK. */
  ended(code: Code | undefined): void;
  /** Whether the worker is ejected: it gets no calls while others can take them. */
  readonly ejected: boolean;
}

/** What a worker does wrong. A rejection, a caller's mistake, a deadline or a caller that left say nothing against it. */
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
