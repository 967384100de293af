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

/** Defaults of absent request fields, as the contract documents them. */
const defaults = { limit: 20, idleMs: 10_000, windowSeconds: 300 };

/** Maximum number of watchers of the service graph: each gets all apps at each change. */
const maxMapWatchers = 32;

/** Registers a collector's StudioService over a span store. An interceptor must have checked the contract's rules. */
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
          // A trace whose spans are all lost has no summary.
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
      // biome-ignore lint/correctness/useYield: it only rejects
      async *watchRequests() {
        throw createConnectError({
          code: Code.Unimplemented,
          message: "a collector has no requests: ask a pipeline whose studio is enabled",
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
    traceState: span.traceState,
    links: span.links.map((link) => ({ ...link, attributes: toValues(link.attributes) })),
    resource: toValues(span.resource),
  };
}

function toValues(attributes: Attributes): { [key: string]: Value } {
  return Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, toValue(value)]));
}

function toValue(value: AttributeValue | undefined): Value {
  return fromJson(ValueSchema, Array.isArray(value) ? value.map(plain) : plain(value));
}

/** Convert an attribute to JSON, which has finite numbers only. */
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

/** Minimum time between two maps, in milliseconds. */
const pauseMs = 250;

/** Maximum share of time for the maps of all watchers: a map reads all spans, on the thread that receives exports. */
const mostBusy = 0.5;

/** Milliseconds after which running spans are checked again: the spans of a process that died have no end. */
const lookMs = 5000;

/**
 * Yields the service graph, now and after each change, also when spans leave the window.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED when the store has too many watchers.
 */
export async function* watchEntityMap(store: SpanStore, watch: EntityMapWatch): AsyncGenerator<WatchEntityMapResponse> {
  const { windowSeconds, signal } = watch;
  const notifier = createNotifier();
  const pause = createNotifier();
  const leave = store.subscribe(() => notifier.notify());
  try {
    let sent: WatchEntityMapResponse | undefined;
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
      const isNew = sent === undefined || !equals(WatchEntityMapResponseSchema, sent, map);
      const busyMs = (performance.now() - begunAt) * store.listenerCount();
      if (isNew) {
        sent = map;
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

/** Maximum number of spans in a message: one with all spans of a trace could exceed a client's limit. */
const maxAtOnce = 100;

/** Maximum number of spans that wait for a reader. A store keeps no more of a trace, but an evicted trace may return with other spans. */
const maxWaiting = 2000;

/**
 * The spans of a trace: the stored ones at once, then each that arrives, running or ended. It ends when no span of the trace has been
 * running, and none has come, for `idleMs`. A reader that is slow gets the latest state of each span and not the ones between.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED when the store has too many watchers.
 */
export async function* watchTrace(store: SpanStore, watch: TraceWatch): AsyncGenerator<SpanRecord[]> {
  const { traceId, idleMs, signal } = watch;
  const notifier = createNotifier();
  /** Spans to send, by span id. */
  const updates = new Map<string, SpanRecord>();
  const note = (spans: readonly SpanRecord[]) => {
    for (const span of spans.filter((each) => each.traceId === traceId)) {
      const [oldest] = updates.size >= maxWaiting && !updates.has(span.spanId) ? updates.keys() : [];
      if (oldest !== undefined) {
        updates.delete(oldest);
      }
      updates.set(span.spanId, span);
      notifier.notify();
    }
  };
  const leave = store.subscribe(note);
  try {
    note([...store.spansOf(traceId), ...store.runningSpansOf(traceId)]);
    for (;;) {
      while (updates.size > 0) {
        const batch = [...updates.values()].slice(0, maxAtOnce);
        for (const { spanId } of batch) {
          updates.delete(spanId);
        }
        yield batch;
      }
      if (idleMs === 0) {
        return;
      }
      const outcome = await notifier.wait(signal, idleMs);
      if (outcome === "aborted" || (outcome === "timeout" && store.runningSpansOf(traceId).length === 0)) {
        return;
      }
    }
  } finally {
    leave();
  }
}
