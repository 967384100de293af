import { create, equals, fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import type { Attributes, AttributeValue } from "@opentelemetry/api";
import {
  type SpanSchema,
  StudioService,
  type TraceSummarySchema,
  type WatchEntityMapResponse,
  WatchEntityMapResponseSchema,
} from "../gen/throughline/studio/v1/studio_pb.js";
import { createConnectError } from "../mesh/errors/errors.js";
import { createNotifier } from "../mesh/serve/stream-notifier.js";
import type { SpanRecord } from "../trace/span-record.js";
import { entityMapOf } from "./entity-map.js";
import type { SpanStore } from "./span-store.js";

/** What a request of the studio means where it says nothing, as the contract has it. */
const defaults = { limit: 20, idleMs: 10_000, windowSeconds: 300 };

/** Most who watch the map at a time: each is told of all apps at each change. */
const maxMapWatchers = 32;

/** Registers StudioService as a collector serves it, from the spans that it has. The contract's rules have to be checked before. */
export function studioRoutes(store: SpanStore): (router: ConnectRouter) => void {
  let mapWatchers = 0;
  return (router) => {
    router.service(StudioService, {
      getStudio: () => ({ hasTraces: true }),
      listTraces({ limit = defaults.limit }) {
        const nowUnixNano = BigInt(Date.now()) * 1_000_000n;
        const traces: MessageInitShape<typeof TraceSummarySchema>[] = [];
        for (const id of store.traceIds()) {
          if (traces.length === limit) {
            break;
          }
          const summary = summarizeTrace({ ended: store.spansOf(id), running: store.runningSpansOf(id), nowUnixNano });
          // Of a trace whose spans are all lost there is nothing to tell.
          if (summary !== undefined) {
            traces.push(summary);
          }
        }
        return { traces };
      },
      async *watchTrace({ traceId, idleMs = defaults.idleMs }, { signal }) {
        for await (const spans of watchTrace(store, { traceId, idleMs, signal })) {
          yield { spans: spans.map(toSpanMessage) };
        }
      },
      async *watchEntityMap({ windowSeconds = defaults.windowSeconds }, { signal }) {
        if (mapWatchers >= maxMapWatchers) {
          const message = `${maxMapWatchers} watch the map of the collector already`;
          throw createConnectError({ code: Code.ResourceExhausted, message });
        }
        mapWatchers++;
        try {
          yield* watchEntityMap(store, { windowSeconds, signal });
        } finally {
          mapWatchers--;
        }
      },
      // biome-ignore lint/correctness/useYield: it only says why there is nothing.
      async *watchRequests() {
        throw createConnectError({
          code: Code.Unimplemented,
          message: "a collector knows of no requests: the pipeline does, where its studio is switched on",
        });
      },
    });
  };
}

/** A span as the studio's contract has it; its events are put in the order of time. */
export function toSpanMessage(span: SpanRecord): MessageInitShape<typeof SpanSchema> {
  const { traceId, spanId, parentSpanId, name, service, kind, startUnixNano, endUnixNano, status } = span;
  return {
    traceId,
    spanId,
    parentSpanId,
    name,
    service,
    kind,
    startUnixNano,
    endUnixNano,
    attributes: toValues(span.attributes),
    events: span.events
      .toSorted((a, b) => (a.timeUnixNano < b.timeUnixNano ? -1 : a.timeUnixNano > b.timeUnixNano ? 1 : 0))
      .map((event) => ({ ...event, attributes: toValues(event.attributes) })),
    status: status.code,
    statusMessage: status.message,
  };
}

function toValues(attributes: Attributes): { [key: string]: Value } {
  return Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, toValue(value)]));
}

function toValue(value: AttributeValue | undefined): Value {
  return fromJson(ValueSchema, Array.isArray(value) ? value.map(plain) : plain(value));
}

/** JSON, and so a Value in it, knows numbers that are finite only. */
function plain(
  value: string | number | boolean | readonly unknown[] | null | undefined,
): string | number | boolean | null {
  if (typeof value === "number" && !Number.isFinite(value)) {
    return String(value);
  }
  return value === undefined || typeof value === "object" ? null : value;
}

/** What of a trace is there: at least one span. */
export interface TraceParts {
  readonly ended: readonly SpanRecord[];
  readonly running: readonly SpanRecord[];
  /** Nanoseconds since 1970. */
  readonly nowUnixNano: bigint;
}

/** A trace in a line; undefined where no span of it is there. */
export function summarizeTrace({
  ended,
  running,
  nowUnixNano,
}: TraceParts): MessageInitShape<typeof TraceSummarySchema> | undefined {
  const spans = [...ended, ...running].toSorted((a, b) => Number(a.startUnixNano - b.startUnixNano));
  const [oldest] = spans;
  if (oldest === undefined) {
    return undefined;
  }
  const first = spans.find(({ parentSpanId }) => parentSpanId === "") ?? oldest;
  const ends = [...ended.map(({ endUnixNano }) => endUnixNano), ...(running.length > 0 ? [nowUnixNano] : [])];
  const end = ends.reduce((latest, each) => (each > latest ? each : latest), oldest.startUnixNano);
  return {
    traceId: first.traceId,
    name: first.name,
    service: first.service,
    startUnixNano: oldest.startUnixNano,
    durationNano: end - oldest.startUnixNano,
    spanCount: spans.length,
    errorCount: spans.filter(({ status }) => status.code === "ERROR").length,
    running: running.length > 0,
  };
}

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
  const notifier = createNotifier();
  const pause = createNotifier();
  const leave = store.subscribe(() => notifier.ring());
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
      await notifier.wait(signal, Number.isFinite(changesMs) ? Math.ceil(changesMs) : undefined);
    }
  } finally {
    leave();
  }
}

/** Which trace to watch. */
export interface TraceWatch {
  readonly traceId: string;
  /** Milliseconds that the trace may be still before the watching ends; 0 for what is there now. */
  readonly idleMs: number;
  /** Ends the watching. */
  readonly signal: AbortSignal;
}

/** Most spans that are told at once: a message with all spans of a trace could be larger than clients take. */
const maxAtOnce = 100;

/** Most spans that wait for a reader: a store keeps no more of a trace, but one that it forgot may come again with other spans. */
const maxWaiting = 2000;

/**
 * The spans of a trace: those that are there at once, then each as it is heard of, running or ended. It ends when no span of the trace has been
 * running, and none has come, for `idleMs`. A reader that is slow gets the latest state of each span and not the ones between.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED when the store is watched by too many.
 */
export async function* watchTrace(store: SpanStore, watch: TraceWatch): AsyncGenerator<SpanRecord[]> {
  const { traceId, idleMs, signal } = watch;
  const notifier = createNotifier();
  /** Not told yet, by span id. */
  const updates = new Map<string, SpanRecord>();
  const note = (spans: readonly SpanRecord[]) => {
    for (const span of spans.filter((each) => each.traceId === traceId)) {
      const [oldest] = updates.size >= maxWaiting && !updates.has(span.spanId) ? updates.keys() : [];
      if (oldest !== undefined) {
        updates.delete(oldest);
      }
      updates.set(span.spanId, span);
      notifier.ring();
    }
  };
  const leave = store.subscribe(note);
  try {
    note([...store.spansOf(traceId), ...store.runningSpansOf(traceId)]);
    for (;;) {
      while (updates.size > 0) {
        const told = [...updates.values()].slice(0, maxAtOnce);
        for (const { spanId } of told) {
          updates.delete(spanId);
        }
        yield told;
      }
      if (idleMs === 0) {
        return;
      }
      const heard = await notifier.wait(signal, idleMs);
      if (heard === "left" || (heard === "quiet" && store.runningSpansOf(traceId).length === 0)) {
        return;
      }
    }
  } finally {
    leave();
  }
}
