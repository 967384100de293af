import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { type Client, Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import {
  StudioService,
  type WatchEntityMapResponse,
  type WatchTraceResponse,
} from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createCollector } from "../../src/studio/collector.js";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { makeSpan } from "../support/make-span.js";
import { createWatchedStore } from "../support/watched-store.js";

const a = "a".repeat(32);
const b = "b".repeat(32);
const span = (fields: Parameters<typeof makeSpan>[0]) => makeSpan({ traceId: a, ...fields });
const running = (fields: Parameters<typeof makeSpan>[0]) => ({ ...span(fields), endUnixNano: 0n });

function setUp() {
  const store = createWatchedStore();
  const { routes, interceptors } = createCollector({ store });
  const transport = createRouterTransport(routes, { router: { interceptors: [...interceptors] } });
  return { store, studio: createClient(StudioService, transport) };
}

async function all<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const read: T[] = [];
  for await (const message of messages) {
    read.push(message);
  }
  return read;
}

const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error).code,
  );

/** Reads a watched trace message by message: each as `name` of an ended span or `name…` of a running one. */
function watching(studio: Client<typeof StudioService>, idleMs?: number, traceId = a) {
  const leaving = new AbortController();
  const request = { traceId, ...(idleMs !== undefined && { idleMs }) };
  const messages = studio.watchTrace(request, { signal: leaving.signal })[Symbol.asyncIterator]();
  return {
    leave: () => leaving.abort(),
    async next(): Promise<string | undefined> {
      const { value }: { value?: WatchTraceResponse | undefined } = await messages.next();
      return value?.spans.map(({ name, endUnixNano }) => (endUnixNano === 0n ? `${name}…` : name)).join(" ");
    },
  };
}

suite("WatchTrace", () => {
  test("WatchTrace sends stored spans at once and then each start and end", async () => {
    const { store, studio } = setUp();
    store.add([running({ name: "root" }), span({ name: "first" })]);
    const trace = watching(studio, 600_000);
    assert.equal(await trace.next(), "first root…");
    store.add([running({ name: "second" }), span({ name: "other", traceId: b })]);
    assert.equal(await trace.next(), "second…");
    store.add([span({ name: "second" })]);
    assert.equal(await trace.next(), "second");
    trace.leave();
    await assert.rejects(trace.next());
    await store.listeners(0);
  });

  test("WatchTrace waits for an unknown trace", async () => {
    const { store, studio } = setUp();
    const trace = watching(studio, 600_000);
    const first = trace.next();
    await store.listeners(1);
    store.add([running({ name: "root" })]);
    assert.equal(await first, "root…");
    trace.leave();
    await assert.rejects(trace.next());
    await store.listeners(0);
  });

  test("WatchTrace continues while a span runs and ends when the trace is idle for the given time", async () => {
    const { store, studio } = setUp();
    store.add([running({ name: "root" })]);
    const trace = watching(studio, 1);
    assert.equal(await trace.next(), "root…");
    const next = trace.next();
    // Each lasts longer than the trace may be still.
    for (let i = 0; i < 5; i++) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    store.add([span({ name: "root" })]);
    assert.equal(await next, "root");
    assert.equal(await trace.next(), undefined);
    assert.equal(store.listenerCount(), 0);
  });

  test("WatchTrace ends for a running span whose process is lost", async () => {
    let nowMs = 0;
    const store = createWatchedStore({ now: () => nowMs, lostAfterMs: 100 });
    const { routes } = createCollector({ store });
    store.add([running({ name: "root" })]);
    const trace = watching(createClient(StudioService, createRouterTransport(routes)), 1);
    assert.equal(await trace.next(), "root…");
    nowMs = 100;
    assert.equal(await trace.next(), undefined);
  });

  test("WatchTrace with an idle time of 0 sends the stored spans and ends", async () => {
    const { store, studio } = setUp();
    store.add([running({ name: "root" })]);
    const trace = watching(studio, 0);
    assert.equal(await trace.next(), "root…");
    assert.equal(await trace.next(), undefined);
    assert.equal(await watching(studio, 0, b).next(), undefined);
  });

  test("WatchTrace sends a slow reader the latest state of each span in messages of limited size", async () => {
    const { store, studio } = setUp();
    const many = Array.from({ length: 250 }, (_, i) => running({ name: "s", spanId: String(i).padStart(16, "0") }));
    store.add(many);
    const trace = watching(studio, 1);
    const texts = [await trace.next()];
    store.add(many.map((each) => ({ ...each, endUnixNano: each.startUnixNano + 1n })));
    for (let text = await trace.next(); text !== undefined; text = await trace.next()) {
      texts.push(text);
    }
    const received = texts.map((text) => text?.split(" ") ?? []);
    assert.deepEqual(
      received.map((names) => names.length),
      [100, 100, 100, 50],
    );
    assert.equal(received.flat().filter((name) => name === "s").length, 250);
  });

  test("WatchTrace sends every field of a span", async () => {
    const { store, studio } = setUp();
    const fields = {
      name: "diffusion",
      spanId: "00000000000000d1",
      parentSpanId: "00000000000000a1",
      kind: "SERVER",
      service: "text-to-image-worker",
      startMs: 5,
      endMs: 7.5,
      attributes: { "diffusion.steps": 20, ok: true, list: ["x", "y"], odd: Number.NaN, ["__proto__"]: "p" },
      status: { code: "ERROR", message: "INTERNAL" },
    } as const satisfies Parameters<typeof makeSpan>[0];
    const record: SpanRecord = {
      ...span(fields),
      traceState: "vendor=1",
      links: [{ traceId: b, spanId: "00000000000000b1", attributes: { why: "caller" } }],
      resource: { "service.name": "text-to-image-worker", "host.cpus": 8 },
      events: [
        { name: "late", timeUnixNano: 2n, attributes: { step: 1 } },
        { name: "early", timeUnixNano: 1n, attributes: {} },
      ],
    };
    store.add([record]);
    const [message] = await all(studio.watchTrace({ traceId: a, idleMs: 0 }));
    const [received] = message?.spans ?? [];
    assert.ok(received !== undefined);
    const { $typeName: _, attributes, events, links, resource, ...rest } = received;
    assert.deepEqual(rest, {
      traceId: a,
      spanId: fields.spanId,
      parentSpanId: fields.parentSpanId,
      name: "diffusion",
      kind: "SERVER",
      service: "text-to-image-worker",
      startUnixNano: record.startUnixNano,
      endUnixNano: record.startUnixNano + 2_500_000n,
      status: "ERROR",
      statusMessage: "INTERNAL",
      traceState: "vendor=1",
    });
    assert.deepEqual(
      links.map((link) => [link.traceId, link.spanId, link.attributes["why"]?.kind.value]),
      [[b, "00000000000000b1", "caller"]],
    );
    assert.deepEqual(
      Object.entries(resource).map(([key, { kind }]) => [key, kind.value]),
      [
        ["service.name", "text-to-image-worker"],
        ["host.cpus", 8],
      ],
    );
    assert.deepEqual(
      Object.entries(attributes).map(([key, { kind }]) => [
        key,
        kind.case,
        kind.case === "listValue" ? kind.value.values.length : kind.value,
      ]),
      [
        ["diffusion.steps", "numberValue", 20],
        ["ok", "boolValue", true],
        ["list", "listValue", 2],
        ["odd", "stringValue", "NaN"],
      ],
    );
    assert.deepEqual(
      events.map(({ name, timeUnixNano, attributes: { step } }) => [name, timeUnixNano, step?.kind.value]),
      [
        ["early", 1n, undefined],
        ["late", 2n, 1],
      ],
    );
  });

  test("WatchTrace rejects an invalid trace id and watchers over the limit", async () => {
    const { studio } = setUp();
    assert.equal(await codeOf(all(studio.watchTrace({ traceId: "x" }))), Code.InvalidArgument);
    assert.equal(await codeOf(all(studio.watchTrace({ traceId: a, idleMs: 600_001 }))), Code.InvalidArgument);
    const { routes } = createCollector({ store: createWatchedStore({ maxListeners: 0 }) });
    const full = createClient(StudioService, createRouterTransport(routes));
    assert.equal(await codeOf(all(full.watchTrace({ traceId: a }))), Code.ResourceExhausted);
    assert.equal(await codeOf(all(full.watchEntityMap({}))), Code.ResourceExhausted);
  });
});

suite("WatchEntityMap", () => {
  const nowMs = () => Number(BigInt(Date.now()) * 1_000_000n - makeSpan().startUnixNano) / 1e6;
  const counts = ({ entities }: WatchEntityMapResponse) =>
    entities.map(({ name, figures }) => [name, figures?.count, figures?.running]);

  test("WatchEntityMap sends the graph at once, after a change and when the window moves", async () => {
    const { store, studio } = setUp();
    const leaving = new AbortController();
    const maps = studio.watchEntityMap({ windowSeconds: 2 }, { signal: leaving.signal })[Symbol.asyncIterator]();
    const next = async () => counts((await maps.next()).value);
    assert.deepEqual(await next(), []);
    store.add([running({ name: "root", kind: "SERVER" })]);
    assert.deepEqual(await next(), [["image-pipeline", 0, 1]]);
    store.add([span({ name: "root", kind: "SERVER", startMs: nowMs() - 5, endMs: nowMs() })]);
    assert.deepEqual(await next(), [["image-pipeline", 1, 0]]);
    assert.deepEqual(await next(), [], "two seconds later nothing is in the window");
    leaving.abort();
    await assert.rejects(next());
    await store.listeners(0);
  });

  test("WatchEntityMap accepts 32 watchers, and another one after one disconnects", async () => {
    const { store, studio } = setUp();
    const watch = async () => {
      const leaving = new AbortController();
      const maps = studio.watchEntityMap({}, { signal: leaving.signal })[Symbol.asyncIterator]();
      await maps.next();
      return async () => {
        leaving.abort();
        await assert.rejects(maps.next());
      };
    };
    const [leave, ...others] = await Promise.all(Array.from({ length: 32 }, watch));
    assert.equal(await codeOf(watch()), Code.ResourceExhausted);
    await leave?.();
    await store.listeners(31);
    const leaveAgain = await watch();
    await Promise.all([leaveAgain, ...others].map((each) => each()));
    await store.listeners(0);
  });

  test("WatchEntityMap sends at most four graphs a second", async () => {
    const { store, studio } = setUp();
    const leaving = new AbortController();
    const maps = studio.watchEntityMap({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    const began = performance.now();
    let received = 0;
    for (let i = 0; received < 4; i++) {
      const { value } = await maps.next();
      assert.ok(value !== undefined);
      received++;
      for (let n = 0; n < 20; n++) {
        store.add([span({ spanId: `${i}${n}`.padStart(16, "0"), kind: "SERVER", startMs: nowMs(), endMs: nowMs() })]);
      }
    }
    // A lower bound holds on a slow machine too.
    assert.ok(performance.now() - began > 740, `${performance.now() - began} ms`);
    leaving.abort();
    await assert.rejects(maps.next());
    await store.listeners(0);
  });
});

test("ListTraces returns a summary of each trace, newest first", async () => {
  const { store, studio } = setUp();
  store.add([
    span({ name: "child", parentSpanId: "00000000000000a1", service: "worker", startMs: 0, endMs: 5 }),
    span({ name: "root", startMs: 1, endMs: 8, status: { code: "ERROR", message: "" } }),
  ]);
  store.add([running({ name: "orphan", traceId: b, parentSpanId: "00000000000000a1" })]);
  const { traces } = await studio.listTraces({});
  assert.deepEqual(
    traces.map(({ traceId, name, service, spanCount, errorCount, running: runs }) => [
      traceId,
      name,
      service,
      spanCount,
      errorCount,
      runs,
    ]),
    [
      [b, "orphan", "image-pipeline", 1, 0, true],
      [a, "root", "image-pipeline", 2, 1, false],
    ],
  );
  assert.equal(traces[1]?.startUnixNano, makeSpan().startUnixNano);
  assert.equal(traces[1]?.durationNano, 8_000_000n);
  assert.ok((traces[0]?.durationNano ?? 0n) > 0n, "until now");
  assert.equal((await studio.listTraces({ limit: 1 })).traces.length, 1);
  for (const limit of [0, 1001]) {
    assert.equal(await codeOf(studio.listTraces({ limit })), Code.InvalidArgument);
  }
});

test("standalone collector has traces and no apps or requests", async () => {
  const { studio } = setUp();
  const { hasTraces, workerApps, traceUrlTemplate } = await studio.getStudio({});
  assert.deepEqual([hasTraces, workerApps, traceUrlTemplate], [true, [], ""]);
  assert.equal(await codeOf(all(studio.watchRequests({}))), Code.Unimplemented);
});
