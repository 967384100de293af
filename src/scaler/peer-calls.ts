import * as z from "zod";
import type { AppCalls, CallDemand, PeerChannel } from "../calls/demand.js";

/** Calls of the other pipelines of a deployment: an autoscaler asks any one of them, and wants the sum. */
export interface PeerCalls {
  /** The sum over the other pipelines. */
  of(app: string): AppCalls;
  /** Calls back with the app when the number of another pipeline may have changed. */
  onChange(listener: (app: string) => void): void;
  /** Begins to send and to receive. @throws the database's error. */
  start(): Promise<void>;
  /** Reports that no call runs here any more. */
  close(): Promise<void>;
}

/** Options of {@link createPeerCalls}. */
export interface PeerCallsOptions {
  readonly channel: PeerChannel;
  /** The calls of this pipeline. */
  readonly calls: CallDemand;
  /** Name of this pipeline among the others. */
  readonly origin: string;
  /** Called when a message cannot be sent. */
  readonly onError: (error: unknown) => void;
  /** Monotonic clock, in milliseconds. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Least time between two reports, in milliseconds. */
const reportMs = 500;
/** Time between two reports of numbers that do not change, in milliseconds. */
const repeatMs = 5_000;
/** Time after which a pipeline that reports nothing counts no more, in milliseconds. */
export const forgetMs = 3 * repeatMs;

const reportSchema = z.object({
  from: z.string(),
  app: z.string(),
  running: z.int().nonnegative(),
  wantedMs: z.number().nonnegative(),
});

interface PeerReport {
  readonly running: number;
  readonly wantedUntil: number;
  readonly validUntil: number;
}

/** Shares the calls of this pipeline with the others: changes within half a second, and all again every 5 s. */
export function createPeerCalls(options: PeerCallsOptions): PeerCalls {
  const { channel, calls, origin, onError, now = () => performance.now() } = options;
  /** By app, then by pipeline. */
  const received = new Map<string, Map<string, PeerReport>>();
  const listeners: ((app: string) => void)[] = [];
  /** Apps to report: those that changed, and those that were not 0 in the last report. */
  const changed = new Set<string>();
  const reported = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let repeat: NodeJS.Timeout | undefined;
  let sending: Promise<void> = Promise.resolve();

  const receive = (text: string): void => {
    const parsed = reportSchema.safeParse(parseJson(text));
    // A newer version may send something else.
    if (!parsed.success || parsed.data.from === origin) {
      return;
    }
    const { from, app, running, wantedMs } = parsed.data;
    const ofApp = received.get(app) ?? new Map<string, PeerReport>();
    received.set(app, ofApp);
    if (running === 0 && wantedMs === 0) {
      ofApp.delete(from);
    } else {
      ofApp.set(from, { running, wantedUntil: now() + wantedMs, validUntil: now() + forgetMs });
    }
    for (const listener of listeners) {
      listener(app);
    }
  };

  const sendAll = async (): Promise<void> => {
    const apps = [...changed];
    changed.clear();
    for (const app of apps) {
      const { running, wantedMs } = calls.of(app);
      if (running > 0 || wantedMs > 0) {
        reported.add(app);
      } else if (!reported.delete(app)) {
        continue;
      }
      await channel.send(JSON.stringify({ from: origin, app, running, wantedMs: Math.ceil(wantedMs) }));
    }
  };
  const flush = (): Promise<void> => {
    sending = sending.then(sendAll).catch(onError);
    return sending;
  };

  const noteChange = (app: string): void => {
    changed.add(app);
    timer ??= setTimeout(() => {
      timer = undefined;
      void flush();
    }, reportMs).unref();
  };

  return {
    of(app) {
      const at = now();
      let running = 0;
      let wantedMs = 0;
      for (const [from, one] of received.get(app) ?? []) {
        if (one.validUntil <= at) {
          received.get(app)?.delete(from);
        } else {
          running += one.running;
          wantedMs = Math.max(wantedMs, one.wantedUntil - at);
        }
      }
      return { running, wantedMs };
    },
    onChange: (listener) => void listeners.push(listener),
    async start() {
      await channel.open(receive);
      calls.onChange(noteChange);
      repeat = setInterval(() => {
        for (const app of [...calls.apps, ...reported]) {
          changed.add(app);
        }
        void flush();
      }, repeatMs).unref();
    },
    async close() {
      clearInterval(repeat);
      clearTimeout(timer);
      for (const app of reported) {
        changed.add(app);
      }
      await flush();
    },
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
