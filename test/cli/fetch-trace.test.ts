import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, type TestContext, test } from "node:test";
import { fromJson, type MessageInitShape } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { connectStudio, fetchTrace } from "../../src/cli/commands/studio-client.js";
import { CliError } from "../../src/cli/errors.js";
import { type SpanSchema, StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const names = ["image-pipeline", "preprocess-prompt", "call-inference-worker", "inference", "diffusion", "upload"];

const span = (name: string, endUnixNano = 2n) => ({
  traceId,
  spanId: Buffer.from(name.padEnd(8).slice(0, 8)).toString("hex"),
  name,
  startUnixNano: 1n,
  endUnixNano,
});

/** A collector that sends these, message by message, and then never ends the call. */
async function startEndless(t: TestContext, ...messages: readonly (readonly MessageInitShape<typeof SpanSchema>[])[]) {
  const left = new AbortController();
  const handler = createConnectHandler({
    routes: ({ service }) =>
      void service(StudioService, {
        async *watchTrace(_, { signal }) {
          for (const spans of messages) {
            yield { spans: [...spans] };
          }
          await once(signal, "abort");
          left.abort();
        },
      }),
  });
  const listening = await listen({ handler, port: 0 });
  t.after(() => listening.stop({ graceMs: 0 }));
  return { ...connectStudio(listening.url), left: left.signal };
}

const interrupt = new AbortController().signal;
/** Longer than any test may take. */
const forever = 3_600_000;

suite("fetchTrace with a wait", () => {
  test("fetchTrace returns when all spans have ended, counts repeated spans once, and closes the call", async (t) => {
    const running = names.map((name) => span(name, name === "inference" ? 0n : 2n));
    const source = await startEndless(t, [...running, span("further")], [span("inference", 3n)]);
    const spans = await fetchTrace({ ...source, traceId, idleMs: 1000, waitMs: forever, interrupt });
    assert.deepEqual(spans.map(({ name }) => name).sort(), [...names, "further"].sort());
    assert.equal(spans.find(({ name }) => name === "inference")?.endUnixNano, 3n);
    if (!source.left.aborted) {
      await once(source.left, "abort");
    }
  });

  test("fetchTrace returns the available spans when its time is over", async (t) => {
    const source = await startEndless(t, [span("image-pipeline")]);
    const spans = await fetchTrace({ ...source, traceId, idleMs: 1000, waitMs: 2000, interrupt });
    assert.deepEqual(
      spans.map(({ name }) => name),
      ["image-pipeline"],
    );
  });

  test("fetchTrace stops at an interrupt", async (t) => {
    const source = await startEndless(t, [span("image-pipeline")]);
    const ending = new AbortController();
    const waiting = fetchTrace({ ...source, traceId, idleMs: 1000, waitMs: forever, interrupt: ending.signal });
    const reason = new CliError("interrupted");
    ending.abort(reason);
    await assert.rejects(waiting, reason);
  });

  test("fetchTrace keeps attributes of every type", async (t) => {
    const values = {
      text: "x",
      number: 1.5,
      truth: true,
      nothing: null,
      list: [1],
      mixed: [1, "a"],
      object: { a: "b" },
    };
    const source = await startEndless(
      t,
      names.map((name) => ({
        ...span(name),
        kind: "CLIENT",
        status: "ERROR",
        statusMessage: "INTERNAL",
        attributes: Object.fromEntries(
          Object.entries(values).map(([key, value]) => [key, fromJson(ValueSchema, value)]),
        ),
        events: [{ name: "event", timeUnixNano: 1n, attributes: {} }],
      })),
    );
    const [first] = await fetchTrace({ ...source, traceId, idleMs: 1000, waitMs: forever, interrupt });
    assert.deepEqual(first?.attributes, { ...values, nothing: "", mixed: '[1,"a"]', object: '{"a":"b"}' });
    assert.deepEqual(first?.status, { code: "ERROR", message: "INTERNAL" });
    assert.equal(first?.kind, "CLIENT");
    assert.deepEqual(first?.events, [{ name: "event", timeUnixNano: 1n, attributes: {} }]);
  });
});
