/* What callers want of the apps at the moment: the pipeline and the jobs count it, and an autoscaler asks for it. */

/** Calls of one app in one pipeline. */
export interface AppCalls {
  /** Calls that wait for a worker or run at one. Those of jobs do not count: the jobs themselves do. */
  readonly running: number;
  /** Milliseconds for which the last call keeps the app wanted after its end, also if it found no worker; 0 while calls run. */
  readonly wantedMs: number;
}

/** Counter of the calls of callers, by app. */
export interface CallDemand {
  /** Counts a call until the returned function is called. */
  begin(app: string): () => void;
  /** Returns the calls of an app. */
  of(app: string): AppCalls;
  /** Apps that have calls or are still wanted. */
  readonly apps: readonly string[];
  /** Calls back with the app after each change. The end of `wantedMs` is none. */
  onChange(listener: (app: string) => void): void;
}

/**
 * Time for which an app is wanted after a call, in milliseconds. An autoscaler that polls every 30 s then sees also short calls, and those
 * that ended at once because they found no worker.
 */
export const wantedAfterMs = 60_000;

/** @param now monotonic clock, in milliseconds. @default performance.now */
export function createCallDemand(now: () => number = () => performance.now()): CallDemand {
  const running = new Map<string, number>();
  const endedAt = new Map<string, number>();
  const listeners: ((app: string) => void)[] = [];

  const add = (app: string, change: number): void => {
    const count = (running.get(app) ?? 0) + change;
    if (count > 0) {
      running.set(app, count);
    } else {
      running.delete(app);
    }
    for (const listener of listeners) {
      listener(app);
    }
  };
  const of = (app: string): AppCalls => {
    const count = running.get(app) ?? 0;
    const leftMs = (endedAt.get(app) ?? Number.NEGATIVE_INFINITY) + wantedAfterMs - now();
    return { running: count, wantedMs: count > 0 ? 0 : Math.max(0, leftMs) };
  };

  return {
    begin(app) {
      let hasEnded = false;
      add(app, 1);
      return () => {
        if (!hasEnded) {
          hasEnded = true;
          endedAt.set(app, now());
          add(app, -1);
        }
      };
    },
    of,
    get apps() {
      return [...new Set([...running.keys(), ...endedAt.keys()])].filter((app) => {
        const { running: count, wantedMs } = of(app);
        return count > 0 || wantedMs > 0;
      });
    },
    onChange: (listener) => void listeners.push(listener),
  };
}

/** Jobs that wait or run, of all pipelines that share the jobs' database. */
export interface JobDemand {
  /** Number by app; an app without jobs has none. @throws the database's error. */
  counts(): Promise<ReadonlyMap<string, number>>;
  /** Calls back with the app after a change that may have changed its number; undefined: of any app. */
  onChange(listener: (app: string | undefined) => void): void;
}

/** Short messages between the pipelines that share the jobs' database. They may be lost. */
export interface PeerChannel {
  /** Receives the messages of other pipelines from now on. @throws the database's error. */
  open(onMessage: (text: string) => void): Promise<void>;
  /** Sends a message of less than 8,000 bytes to the others, once the channel is open. @throws the database's error. */
  send(text: string): Promise<void>;
}
