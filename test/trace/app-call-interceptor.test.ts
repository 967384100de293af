import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  createContextValues,
  createRouterTransport,
} from "@connectrpc/connect";
import { ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { otelContext } from "../../src/otelconnect/otel-context.js";
import { createAppCallInterceptor } from "../../src/trace/app-call-interceptor.js";
import { createServerSpanInterceptor } from "../../src/trace/server-span-interceptor.js";
import { withSpan } from "../../src/trace/span-scope.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { testTelemetry } from "../support/telemetry.js";

interface Handlers {
  readonly infer?: () => void;
  readonly events?: () => AsyncIterable<object>;
}

/** Two apps in memory: `front` calls `worker`, each with tracing of its own and the interceptors of this part. */
function twoApps(t: TestContext, handlers: Handlers = {}) {
  const front = testTelemetry(t, "front");
  const worker = testTelemetry(t, "worker", { collector: front.collector });
  const carriers: unknown[] = [];
  const routes = (router: ConnectRouter) => {
    router.service(TextToImageWorkerService, {
      infer(request) {
        carriers.push(request.traceContext);
        handlers.infer?.();
        return {};
      },
      async *inferStream({ request }) {
        carriers.push(request?.traceContext);
        yield* handlers.events?.() ?? [{}];
      },
    });
  };
  const server = createServerSpanInterceptor({
    ...worker,
    name: "worker",
    services: [TextToImageWorkerService],
    parent: "ignore",
  });
  const client = createAppCallInterceptor({ ...front, name: "call-worker", appId: "acme/worker" });
  const transport = createRouterTransport(routes, {
    router: { interceptors: [server] },
    transport: { interceptors: [client] },
  });
  return {
    worker: createClient(TextToImageWorkerService, transport),
    inFront: <T>(work: () => Promise<T>) => withSpan(front.tracer, "front", { parent: ROOT_CONTEXT }, work),
    spans: () => front.collector.spans(),
    tracer: front.tracer,
    carriers,
  };
}

test("call span is a child of the given context and propagates it", async (t) => {
  const { worker, spans, tracer } = twoApps(t);
  const root = tracer.startSpan("front", {}, ROOT_CONTEXT);
  const parent = trace.setSpan(ROOT_CONTEXT, root);
  await worker.infer({ prompt: "a" }, { contextValues: createContextValues().set(otelContext, parent) });
  root.end();
  assert.equal(dumpSpans(spans()), tree("Infer", "OK"));
});

for (const code of [Code.InvalidArgument, Code.Unavailable]) {
  test(`stream that fails with ${Code[code]} is an error of the client span with its exception`, async (t) => {
    const { worker, inFront, spans } = twoApps(t, {
      async *events() {
        yield {};
        throw new ConnectError("words", code);
      },
    });
    await assert.rejects(
      inFront(async () => {
        for await (const _ of worker.inferStream({ request: { prompt: "a" } })) {
        }
      }),
      { code },
    );
    const call = spans().find(({ name }) => name === "call-worker");
    assert.equal(call?.status.code, "ERROR");
    assert.equal(call.attributes["rpc.response.status_code"], call.status.message);
    assert.deepEqual(
      call.events.map(({ name }) => name),
      ["exception"],
    );
  });
}

const tree = (method: string, code: string, error = "") => text`
  front INTERNAL front
    call-worker CLIENT front${error}
        app.id="acme/worker"
        rpc.method="throughline.v1.TextToImageWorkerService/${method}"
        rpc.response.status_code="${code}"
        rpc.system.name="grpc"
    worker SERVER worker
`;

test("unary call carries the trace in its request body, and the called app's span is a sibling of the call span", async (t) => {
  const { worker, inFront, spans } = twoApps(t);
  await inFront(() => worker.infer({ prompt: "a" }));
  assert.equal(dumpSpans(spans()), tree("Infer", "OK"));
});

test("stream carries the trace in the request that it wraps", async (t) => {
  const { worker, inFront, spans } = twoApps(t, {
    async *events() {
      yield {};
      yield {};
    },
  });
  let count = 0;
  await inFront(async () => {
    for await (const _ of worker.inferStream({ request: { prompt: "a" } })) {
      count++;
    }
  });
  assert.equal(count, 2);
  assert.equal(dumpSpans(spans()), tree("InferStream", "OK"));
});

test("carrier set by the caller is not changed", async (t) => {
  const { worker, inFront, carriers } = twoApps(t);
  const own = { tracestate: "vendor=1" };
  await inFront(() => worker.infer({ prompt: "a", traceContext: own }));
  assert.deepEqual(carriers, [own]);
});

test("stream that ends by its signal ends its span", async (t) => {
  const controller = new AbortController();
  const { worker, inFront, spans } = twoApps(t, {
    async *events() {
      yield {};
      await new Promise<void>(() => {});
    },
  });
  await inFront(async () => {
    for await (const _ of worker.inferStream({ request: { prompt: "a" } }, { signal: controller.signal })) {
      break;
    }
  });
  controller.abort();
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  const call = spans().find(({ name }) => name === "call-worker");
  assert.equal(call?.attributes["rpc.response.status_code"], "CANCELLED");
  assert.deepEqual(call.status, { code: "UNSET", message: "" });
});

test("failed call records its code on the span and rethrows", async (t) => {
  const { worker, inFront, spans } = twoApps(t, {
    infer() {
      throw new ConnectError("full", Code.ResourceExhausted);
    },
  });
  await assert.rejects(
    inFront(() => worker.infer({ prompt: "a" })),
    { code: Code.ResourceExhausted },
  );
  const call = spans().find(({ name }) => name === "call-worker");
  assert.deepEqual(call?.status, { code: "ERROR", message: "RESOURCE_EXHAUSTED" });
  assert.equal(call.attributes["rpc.response.status_code"], "RESOURCE_EXHAUSTED");
});
