import { create, equals } from "@bufbuild/protobuf";
import { type WatchEntityMapResponse, WatchEntityMapResponseSchema } from "../gen/throughline/studio/v1/studio_pb.js";
import { createStreamBell } from "../mesh/serve/stream-bell.js";
import { entityMapOf } from "./entity-map.js";
import type { SpanStore } from "./span-store.js";

/** What to watch of the map. */
export interface EntityMapWatch {
  /** Seconds that the map looks back. */
  readonly windowSeconds: number;
  /** Ends the watching. */
  readonly signal: AbortSignal;
}

/** Milliseconds from one map to the next, at least. */
const pauseMs = 250;

/** Of the time, the share that the maps of all watchers may take: a map is made of all spans, on the thread that takes exports. */
const mostBusy = 0.5;

/** Milliseconds after which spans that run are looked at again: one whose process is gone stops running without a word. */
const lookMs = 5000;

/**
 * The map of apps and calls, now and after each change: also when the window leaves figures behind.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED when the store is watched by too many.
 */
export async function* watchEntityMap(store: SpanStore, watch: EntityMapWatch): AsyncGenerator<WatchEntityMapResponse> {
  const { windowSeconds, signal } = watch;
  const bell = createStreamBell();
  const pause = createStreamBell();
  const leave = store.subscribe(() => bell.ring());
  try {
    let told: WatchEntityMapResponse | undefined;
    while (!signal.aborted) {
      const begunAt = performance.now();
      const nowUnixNano = BigInt(Date.now()) * 1_000_000n;
      const { isRunning } = store;
      const { entities, calls, changesAfterMs } = entityMapOf(store.traces(), {
        windowSeconds,
        nowUnixNano,
        isRunning,
      });
      const map = create(WatchEntityMapResponseSchema, { entities: [...entities], calls: [...calls] });
      const isNew = told === undefined || !equals(WatchEntityMapResponseSchema, told, map);
      const busyMs = (performance.now() - begunAt) * store.listenerCount();
      if (isNew) {
        told = map;
        yield map;
      }
      await pause.wait(signal, Math.max(pauseMs, busyMs / mostBusy));
      const runs = entities.some(({ figures }) => figures.running > 0);
      const changesMs = Math.min(changesAfterMs ?? Number.POSITIVE_INFINITY, runs ? lookMs : Number.POSITIVE_INFINITY);
      await bell.wait(signal, Number.isFinite(changesMs) ? Math.ceil(changesMs) : undefined);
    }
  } finally {
    leave();
  }
}
