import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { signal as createSignal, type ReadonlySignal } from "@preact/signals";
import type {
  GetStudioResponse,
  StudioService,
  TraceSummary,
  WatchEntityMapResponse,
} from "../../gen/throughline/studio/v1/studio_pb.js";
import { isConnectionLost, type UserError, userErrorOf } from "../request/user-error.js";
import { createPauses } from "./pauses.js";

/** State of the connection to the service. */
export type ConnectionState =
  | { readonly kind: "connecting" }
  | { readonly kind: "live" }
  /** The service, or the collector behind it, does not answer; the next try comes then, by the wall clock. */
  | {
      readonly kind: "lost";
      readonly part: "service" | "collector";
      readonly problem: UserError;
      readonly retryAtMs: number;
    }
  /** A caller's key is missing or not taken. Goes on with {@link Connection.retry}. */
  | { readonly kind: "locked" };

/** State of the service, kept up to date. */
export interface Connection {
  readonly state: ReadonlySignal<ConnectionState>;
  /** What the service offers; undefined until it has answered. */
  readonly offer: ReadonlySignal<GetStudioResponse | undefined>;
  /** The newest service graph. */
  readonly map: ReadonlySignal<WatchEntityMapResponse | undefined>;
  /** The newest traces, newest first. */
  readonly traces: ReadonlySignal<readonly TraceSummary[]>;
  /** Begins to watch. */
  start(): void;
  /** Ends the watching, such as while the page is hidden: a browser has six connections for all of its tabs. */
  stop(): void;
  /** Tries again now. */
  retry(): void;
}

/** What a connection needs. */
export interface ConnectionOptions {
  readonly client: Client<typeof StudioService>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** 0 to 1, for the pauses between tries. */
  readonly random: () => number;
}

const listedTraces = 50;

/** Asks what there is, watches the map, and lists the traces anew whenever the map changes; comes back by itself after each failure. */
export function createConnection({ client, now, random }: ConnectionOptions): Connection {
  const state = createSignal<ConnectionState>({ kind: "connecting" });
  const offer = createSignal<GetStudioResponse | undefined>(undefined);
  const map = createSignal<WatchEntityMapResponse | undefined>(undefined);
  const traces = createSignal<readonly TraceSummary[]>([]);
  let watching = new AbortController();
  const pauses = createPauses();

  const watchOnce = async (signal: AbortSignal, onLive: () => void): Promise<void> => {
    const answer = await client.getStudio({}, { signal });
    offer.value = answer;
    onLive();
    if (!answer.hasTraces) {
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    }
    for await (const updates of client.watchEntityMap({}, { signal })) {
      map.value = updates;
      traces.value = (await client.listTraces({ limit: listedTraces }, { signal })).traces;
      onLive();
    }
  };

  const watch = async (signal: AbortSignal): Promise<void> => {
    let failures = 0;
    while (!signal.aborted) {
      try {
        await watchOnce(signal, () => {
          failures = 0;
          state.value = { kind: "live" };
        });
        if (!signal.aborted) {
          throw new ConnectError("the service ended the watching", Code.Canceled);
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        const failure = ConnectError.from(error);
        if (failure.code === Code.Unauthenticated) {
          state.value = { kind: "locked" };
          await pauses.wait(undefined, signal);
        } else {
          failures++;
          const pauseMs = backOffMs(failures, random());
          const part = isCollectorLost(failure) ? "collector" : "service";
          state.value = { kind: "lost", part, problem: watchError(failure), retryAtMs: now() + pauseMs };
          await pauses.wait(pauseMs, signal);
        }
      }
    }
  };

  return {
    state,
    offer,
    map,
    traces,
    start() {
      watching.abort();
      watching = new AbortController();
      void watch(watching.signal);
    },
    stop() {
      watching.abort();
    },
    retry: pauses.wake,
  };
}

/** Whether the service answers, and only the collector behind it does not. */
function isCollectorLost(failure: ConnectError): boolean {
  return !isConnectionLost(failure) && failure.code === Code.Unavailable;
}

/** The failure of a watcher, which is not that of a request. */
function watchError(failure: ConnectError): UserError {
  const problem = userErrorOf(failure);
  if (isConnectionLost(failure)) {
    return {
      ...problem,
      title: "The service cannot be reached",
      advice: `${problem.advice} This page goes on as soon as it is back.`,
    };
  }
  if (!isCollectorLost(failure)) {
    return problem;
  }
  return {
    ...problem,
    title: "The collector cannot be reached",
    advice: "Images can be generated; traces and the map come back with it.",
  };
}

const firstMs = 1000;
const growth = 1.6;
const maxMs = 15_000;

/**
 * How long to wait before the next try: 1 s after the first failure, 1.6 times as long after each further one, at most 15 s, a fifth more or
 * less, so that the pages of many people do not come back in the same moment.
 *
 * @param failures in a row, from 1.
 * @param random 0 to 1.
 */
export function backOffMs(failures: number, random: number): number {
  const base = Math.min(maxMs, firstMs * growth ** (failures - 1));
  return Math.round(base * (0.8 + 0.4 * random));
}
