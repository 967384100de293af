import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { effect } from "@preact/signals";
import {
  SpanSchema,
  StudioService,
  type WatchTraceResponseSchema,
} from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createTraceWatch, isGrowing, type TraceWatch } from "../../src/page/trace/trace-watch.js";

const traceId = "4e59a70947e16460dd0641a9b92f3047";
type Updates = AsyncIterable<MessageInitShape<typeof WatchTraceResponseSchema>>;

/** A watch over the streams of a service, one after another, without the pauses between them. */
function watchOver(t: TestContext, streams: readonly (() => Updates)[]) {
  t.mock.method(globalThis, "setTimeout", (resolve: () => void) => queueMicrotask(resolve));
  let calls = 0;
  const transport = createRouterTransport(({ service }) => {
    service(StudioService, {
      watchTrace() {
        const stream = streams[calls++];
        assert.ok(stream !== undefined, "watched more often than the test expects");
        return stream();
      },
    });
  });
  const client = createClient(StudioService, transport);
  const watch = createTraceWatch({ client, now: () => 0, random: () => 0.5 });
  return { watch, calls: () => calls };
}

/** All that the watch shows until it watches no more: ids of the spans, and whether more may come. */
async function shownBy(watch: TraceWatch): Promise<string[]> {
  const shown: string[] = [];
  let stop = () => {};
  await new Promise<void>((resolve) => {
    stop = effect(() => {
      const trace = watch.trace.value;
      if (trace !== undefined) {
        shown.push(`${trace.spans.map(({ spanId }) => spanId)}${trace.watching ? " …" : ""}`);
        if (!trace.watching) {
          resolve();
        }
      }
    });
    watch.select(traceId);
  });
  stop();
  return shown;
}

// biome-ignore lint/correctness/useYield: it fails before it has any.
async function* away(): Updates {
  throw new ConnectError("away", Code.Unavailable);
}

async function* lost(): Updates {
  yield {
    spans: [
      { traceId, spanId: "a" },
      { traceId, spanId: "b" },
    ],
  };
  throw new ConnectError("lost", Code.Unavailable);
}

async function* whole(): Updates {
  yield { spans: [{ traceId, spanId: "a" }] };
  yield { spans: [{ traceId, spanId: "c" }] };
}

test("trace watch keeps spans while it reconnects, until an update arrives", async (t) => {
  const { watch } = watchOver(t, [lost, away, whole]);
  assert.deepEqual(await shownBy(watch), [" …", "a,b …", "a …", "a,c …", "a,c"]);
});

test("trace watch keeps spans that a restarted collector does not have", async (t) => {
  const { watch } = watchOver(t, [lost, async function* (): Updates {}]);
  assert.deepEqual(await shownBy(watch), [" …", "a,b …", "a,b"]);
});

test("trace watch ends after five consecutive failures", async (t) => {
  const { watch, calls } = watchOver(t, [away, away, away, away, away]);
  assert.deepEqual(await shownBy(watch), [" …", ""]);
  assert.equal(calls(), 5);
});

test("trace watch counts failures from the last update", async (t) => {
  const { watch } = watchOver(t, [away, away, away, away, lost, away, away, away, whole]);
  assert.deepEqual(await shownBy(watch), [" …", "a,b …", "a …", "a,c …", "a,c"]);
});

test("trace watch ends at once for a rejected key", async (t) => {
  const rejected = () => {
    throw new ConnectError("no key", Code.Unauthenticated);
  };
  const { watch, calls } = watchOver(t, [rejected]);
  assert.deepEqual(await shownBy(watch), [" …", ""]);
  assert.equal(calls(), 1);
});

test("trace watch follows a service clock up to a minute ahead and ignores larger offsets", async (t) => {
  const ends = (...endsMs: readonly bigint[]): (() => Updates) =>
    async function* () {
      yield { spans: endsMs.map((ms) => ({ traceId, spanId: String(ms), endUnixNano: ms * 1_000_000n })) };
    };
  const { watch } = watchOver(t, [ends(250n, 100n, 60_001n, 18_446_744_073_709n)]);
  await shownBy(watch);
  assert.equal(watch.aheadMs.value, 250);
});

test("trace without updates from the service is not shown as running", () => {
  const ended = create(SpanSchema, { spanId: "a", endUnixNano: 2n });
  const open = create(SpanSchema, { spanId: "b" });
  const grows = (watching: boolean, isLive: boolean) => isGrowing({ traceId, spans: [ended, open], watching }, isLive);
  assert.deepEqual([grows(true, true), grows(true, false), grows(false, true)], ["yes", "unknown", "unknown"]);
  assert.equal(isGrowing({ traceId, spans: [ended], watching: true }, true), "no");
});

test("a trace that was still goes on where it was, with the spans that are known", async (t) => {
  const span = (spanId: string) => create(SpanSchema, { traceId, spanId, startUnixNano: 1n, endUnixNano: 2n });
  const { watch, calls } = watchOver(t, [
    async function* () {
      yield { spans: [span("send")] };
    },
    async function* () {
      yield { spans: [span("send"), span("process")] };
    },
  ]);
  assert.deepEqual(await shownBy(watch), [" …", "send …", "send"]);
  watch.select(traceId);
  watch.resume("0af7651916cd43dd8448eb211c80319c");
  assert.equal(calls(), 1);
  watch.resume(traceId);
  assert.deepEqual(await shownBy(watch), ["send …", "send,process …", "send,process"]);
});
