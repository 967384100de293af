import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { context, ROOT_CONTEXT, SpanKind, trace } from "@opentelemetry/api";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { extractCarrier, injectCarrier } from "../../src/trace/carrier.js";
import { iterateWithClientSpan } from "../../src/trace/client-span.js";
import { withSpan } from "../../src/trace/span-scope.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { testTelemetry } from "../support/telemetry.js";

const call = {
  name: "call-inference-worker",
  parent: ROOT_CONTEXT,
  appId: "local/text-to-image-worker",
  method: TextToImageWorkerService.method.inferStream,
};

const expected = (code: string, status = "", event = "") =>
  [
    `call-inference-worker CLIENT image-pipeline${status}`,
    '    app.id="local/text-to-image-worker"',
    `    rpc.method="throughline.v1.TextToImageWorkerService/InferStream"`,
    `    rpc.response.status_code="${code}"`,
    '    rpc.system.name="grpc"',
    ...(event === "" ? [] : [`    event ${event}`]),
  ].join("\n");

for (const code of [Code.InvalidArgument, Code.Unavailable, Code.ResourceExhausted]) {
  test(`any failure is an error of the client's span: ${Code[code]}`, async (t) => {
    const { tracer, collector } = testTelemetry(t, "image-pipeline");
    await assert.rejects(
      readAll(iterateWithClientSpan(tracer, call, () => answers(1, new ConnectError("words", code)))),
    );
    const [span] = collector.spans();
    assert.equal(span?.status.code, "ERROR");
    assert.equal(span?.attributes["rpc.response.status_code"], span?.status.message);
  });
}

test("a call that was cancelled is an error too, but not an exception", async (t) => {
  const { tracer, collector } = testTelemetry(t, "image-pipeline");
  const left = new ConnectError("left", Code.Canceled);
  await assert.rejects(readAll(iterateWithClientSpan(tracer, call, () => answers(0, left))));
  assert.equal(dumpSpans(collector.spans()), expected("CANCELLED", ' ERROR "CANCELLED"'));
});

async function readAll<T>(messages: AsyncIterable<T>): Promise<readonly T[]> {
  const read: T[] = [];
  for await (const message of messages) {
    read.push(message);
  }
  return read;
}

async function* answers(until: number, error?: Error) {
  for (let i = 1; i <= until; i++) {
    await Promise.resolve();
    yield trace.getSpan(context.active())?.spanContext().spanId;
  }
  if (error) {
    throw error;
  }
}

test("a stream that is read to its end", async (t) => {
  const { tracer, collector } = testTelemetry(t, "image-pipeline");
  const seen: unknown[] = [];
  for await (const id of iterateWithClientSpan(tracer, call, () => answers(3))) {
    seen.push(id);
  }
  assert.deepEqual(seen, Array(3).fill(collector.spans()[0]?.spanId));
  assert.equal(dumpSpans(collector.spans()), expected("OK"));
});

test("a stream that fails", async (t) => {
  const { tracer, collector } = testTelemetry(t, "image-pipeline");
  const lost = new ConnectError("the worker was lost", Code.Unavailable);
  const consume = async () => {
    for await (const _id of iterateWithClientSpan(tracer, call, () => answers(1, lost))) {
    }
  };
  await assert.rejects(consume, lost);
  assert.equal(
    dumpSpans(collector.spans()),
    expected(
      "UNAVAILABLE",
      ' ERROR "UNAVAILABLE"',
      'exception exception.message="the worker was lost" exception.type="ConnectError"',
    ),
  );
});

test("a stream that is left early is cancelled", async (t) => {
  const { tracer, collector } = testTelemetry(t, "image-pipeline");
  for await (const _id of iterateWithClientSpan(tracer, call, () => answers(3))) {
    break;
  }
  assert.equal(dumpSpans(collector.spans()), expected("CANCELLED", ' ERROR "CANCELLED"'));
});

test("the whole of a request in two services: the carrier makes inference a sibling of the call", async (t) => {
  const pipeline = testTelemetry(t, "image-pipeline");
  const worker = testTelemetry(t, "text-to-image-worker", { collector: pipeline.collector });
  await withSpan(
    pipeline.tracer,
    "image-pipeline",
    { parent: ROOT_CONTEXT, kind: SpanKind.SERVER },
    async (_span, root) => {
      await withSpan(pipeline.tracer, "preprocess-prompt", { parent: root }, (span) =>
        span.setAttribute("prompt.length", 14),
      );
      const carrier = injectCarrier(pipeline.propagator, root);
      const inference = iterateWithClientSpan(pipeline.tracer, { ...call, parent: root }, async function* () {
        const parent = extractCarrier(worker.propagator, carrier);
        await withSpan(worker.tracer, "inference", { parent, kind: SpanKind.SERVER }, async (_inference, scope) => {
          await withSpan(worker.tracer, "diffusion", { parent: scope }, (span) => span.addEvent("denoising"));
          await withSpan(worker.tracer, "upload", { parent: scope }, () => {});
        });
        yield "image";
      });
      assert.deepEqual(await readAll(inference), ["image"]);
    },
  );
  assert.equal(
    dumpSpans(pipeline.collector.spans()),
    text`
      image-pipeline SERVER image-pipeline
        call-inference-worker CLIENT image-pipeline
            app.id="local/text-to-image-worker"
            rpc.method="throughline.v1.TextToImageWorkerService/InferStream"
            rpc.response.status_code="OK"
            rpc.system.name="grpc"
        inference SERVER text-to-image-worker
          diffusion INTERNAL text-to-image-worker
              event denoising
          upload INTERNAL text-to-image-worker
        preprocess-prompt INTERNAL image-pipeline
            prompt.length=14
    `,
  );
});
