import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:http2";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  type HandlerContext,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { context, propagation, trace } from "@opentelemetry/api";
import { Health } from "../../src/gen/grpc/health/v1/health_pb.js";
import { GenerateResponseSchema, ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import type { RemoteParent } from "../../src/otelconnect/otel-context.js";
import { createServerSpanInterceptor, serverScope } from "../../src/trace/server-span-interceptor.js";
import { traceIdOf } from "../../src/trace/span-scope.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { testTelemetry } from "../support/telemetry.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";
const callerHeaders = { traceparent: `00-${traceId}-${spanId}-01`, tracestate: "vendor=1", baggage: "tenant=t1" };
const canary = "canary prompt";

interface Handlers {
  generate?: (context: HandlerContext) => Promise<void>;
  generateStream?: (context: HandlerContext) => AsyncIterable<string>;
}

/** A pipeline on a real HTTP/2 server, with spans kept in memory. */
async function serve(
  t: TestContext,
  handlers: Handlers,
  options: { parent?: RemoteParent; environment?: Record<string, string>; interceptors?: Interceptor[] } = {},
) {
  const telemetry = testTelemetry(t, "image-pipeline", { environment: options.environment ?? {} });
  const interceptor = createServerSpanInterceptor({
    ...telemetry,
    name: "image-pipeline",
    services: [ImagePipelineService],
    ...(options.parent && { parent: options.parent }),
  });
  const respond = (traceIdHere: string) => create(GenerateResponseSchema, { traceId: traceIdHere });
  const routes = (router: ConnectRouter) => {
    router.service(ImagePipelineService, {
      async generate(_request, handlerContext) {
        await handlers.generate?.(handlerContext);
        return respond(traceIdOf(context.active()));
      },
      async *generateStream(_request, handlerContext) {
        for await (const value of handlers.generateStream?.(handlerContext) ?? []) {
          yield { event: { case: "result", value: respond(value) } };
        }
      },
    });
    router.service(Health, { check: () => ({}) });
  };
  const server = createServer(
    connectNodeAdapter({ routes, interceptors: [interceptor, ...(options.interceptors ?? [])] }),
  );
  const { url: baseUrl } = await listenOnLoopback(t, server);
  return { ...telemetry, transport: createGrpcTransport({ baseUrl }), baseUrl };
}

const pipeline = (transport: Transport) => createClient(ImagePipelineService, transport);

test("unary call makes one SERVER span, active in the handler, with the handler's attributes", async (t) => {
  const { transport, collector } = await serve(t, {
    async generate({ values }) {
      await Promise.resolve();
      trace.getSpan(context.active())?.setAttribute("prompt.length", 11);
      assert.equal(trace.getSpan(values.get(serverScope)), trace.getSpan(context.active()));
    },
  });
  const response = await pipeline(transport).generate({ prompt: canary });
  assert.match(response.traceId, /^[0-9a-f]{32}$/);
  assert.equal(response.traceId, collector.spans()[0]?.traceId);
  assert.equal(dumpSpans(collector.spans()), "image-pipeline SERVER image-pipeline\n    prompt.length=11");
});

test("stream makes one SERVER span, and its handler has the trace after any number of messages", async (t) => {
  const { transport, collector } = await serve(t, {
    async *generateStream() {
      for (let i = 0; i < 4; i++) {
        yield traceIdOf(context.active());
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  });
  const seen: string[] = [];
  for await (const { event } of pipeline(transport).generateStream({})) {
    if (event.case === "result") {
      seen.push(event.value.traceId);
    }
  }
  const [span] = collector.spans();
  assert.deepEqual(seen, Array(4).fill(span?.traceId));
  assert.equal(dumpSpans(collector.spans()), "image-pipeline SERVER image-pipeline");
});

test("concurrent calls do not mix their spans", async (t) => {
  const { transport } = await serve(t, {
    async *generateStream() {
      for (let i = 0; i < 5; i++) {
        yield traceIdOf(context.active());
      }
    },
  });
  const client = pipeline(transport);
  const traceIds = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const seen = new Set<string>();
      for await (const { event } of client.generateStream({})) {
        if (event.case === "result") {
          seen.add(event.value.traceId);
        }
      }
      assert.equal(seen.size, 1);
      return [...seen][0];
    }),
  );
  assert.equal(new Set(traceIds).size, 10);
});

test("other services on the same server make no span", async (t) => {
  const { transport, collector } = await serve(t, {});
  await createClient(Health, transport).check({});
  assert.deepEqual(collector.spans(), []);
});

const policies: { policy: RemoteParent | undefined; expected: string; baggage: string | undefined }[] = [
  {
    policy: undefined,
    expected: `image-pipeline SERVER image-pipeline\n    link ${traceId}-${spanId}`,
    baggage: undefined,
  },
  {
    policy: "link",
    expected: `image-pipeline SERVER image-pipeline\n    link ${traceId}-${spanId}`,
    baggage: undefined,
  },
  {
    policy: "trust",
    expected: "(remote parent)\n  image-pipeline SERVER image-pipeline\n      tracestate vendor=1",
    baggage: "t1",
  },
  { policy: "ignore", expected: "image-pipeline SERVER image-pipeline", baggage: undefined },
];

for (const { policy, expected, baggage } of policies) {
  test(`caller's trace headers, policy ${policy ?? "by default"}`, async (t) => {
    let seenBaggage: string | undefined;
    const { transport, collector } = await serve(
      t,
      {
        async generate() {
          seenBaggage = propagation.getActiveBaggage()?.getEntry("tenant")?.value;
        },
      },
      policy === undefined ? {} : { parent: policy },
    );
    const response = await pipeline(transport).generate({}, { headers: callerHeaders });
    assert.equal(response.traceId === traceId, policy === "trust");
    assert.equal(dumpSpans(collector.spans()), expected);
    assert.equal(seenBaggage, baggage);
  });
}

const codes = Object.values(Code).filter((code) => typeof code === "number");
const errorCodes = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

test("span of a failed call has its code, and is an ERROR only for server failures", async (t) => {
  let code = Code.Unknown;
  const { transport, collector } = await serve(t, {
    async generate() {
      throw new ConnectError("plain words", code);
    },
  });
  for (code of codes) {
    await assert.rejects(
      pipeline(transport).generate({}),
      (error) => error instanceof ConnectError && error.code === code,
    );
    const [span] = collector.spans();
    assert.equal(span?.status.code, errorCodes.has(code) ? "ERROR" : "UNSET", Code[code]);
    const name = Code[code].replace(/(?<=[a-z])[A-Z]/g, "_$&").toUpperCase();
    assert.equal(span?.attributes["rpc.response.status_code"], name === "CANCELED" ? "CANCELLED" : name);
    collector.clear();
  }
  assert.equal(codes.length, 16);
});

test("request rejected by a later interceptor makes one span with its code", async (t) => {
  const reject: Interceptor = () => () => {
    throw new ConnectError(`prompt: ${canary}`, Code.InvalidArgument);
  };
  const { transport, collector } = await serve(t, {}, { interceptors: [reject] });
  await assert.rejects(pipeline(transport).generate({ prompt: canary }));
  assert.equal(
    dumpSpans(collector.spans()),
    text`
      image-pipeline SERVER image-pipeline
          rpc.response.status_code="INVALID_ARGUMENT"
          event exception exception.type="ConnectError"
    `,
  );
});

test("stream that fails after some messages makes a failed span", async (t) => {
  const { transport, collector } = await serve(t, {
    async *generateStream() {
      yield "1";
      throw new TypeError(canary);
    },
  });
  const consume = async () => {
    for await (const _message of pipeline(transport).generateStream({})) {
    }
  };
  await assert.rejects(consume, (error) => error instanceof ConnectError && error.code === Code.Internal);
  assert.equal(
    dumpSpans(collector.spans()),
    text`
      image-pipeline SERVER image-pipeline ERROR "INTERNAL"
          rpc.response.status_code="INTERNAL"
          event exception exception.type="TypeError"
    `,
  );
});

/** Waits like an engine: until the call is over, whose reason it throws. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) {
      abort();
    } else {
      signal.addEventListener("abort", abort);
    }
  });
}

/** With this reason Connect's client resets its stream with CANCEL, as other clients do. */
const left = new ConnectError("left", Code.Canceled);

const cancelled = 'image-pipeline SERVER image-pipeline\n    rpc.response.status_code="CANCELLED"';
const late = text`
  image-pipeline SERVER image-pipeline ERROR "DEADLINE_EXCEEDED"
      rpc.response.status_code="DEADLINE_EXCEEDED"
      event exception exception.message="the operation timed out" exception.type="ConnectError"
`;

test("client that cancels a unary call makes a cancelled span without an error", async (t) => {
  const leaving = new AbortController();
  const { transport, collector } = await serve(t, {
    async generate({ signal }) {
      setImmediate(() => leaving.abort(left));
      await untilAborted(signal);
    },
  });
  await assert.rejects(pipeline(transport).generate({}, { signal: leaving.signal }));
  await collector.waitFor((spans) => spans.length > 0, AbortSignal.timeout(30_000));
  assert.equal(dumpSpans(collector.spans()), cancelled);
});

for (const waiting of [true, false]) {
  test(`client that cancels a stream ${waiting ? "that waits" : "that flows"} makes a cancelled span`, async (t) => {
    const { transport, collector } = await serve(t, {
      async *generateStream({ signal }) {
        for (let i = 0; ; i++) {
          yield `${i}`;
          if (waiting && i === 2) {
            await untilAborted(signal);
          } else {
            await new Promise((resolve) => setImmediate(resolve));
          }
        }
      },
    });
    const leaving = new AbortController();
    let seen = 0;
    const consume = async () => {
      for await (const _message of pipeline(transport).generateStream({}, { signal: leaving.signal })) {
        if (++seen === 3) {
          leaving.abort(left);
        }
      }
    };
    await assert.rejects(consume);
    await collector.waitFor((spans) => spans.length > 0, AbortSignal.timeout(30_000));
    assert.equal(dumpSpans(collector.spans()), cancelled);
  });
}

/** A deadline that only the server's clock watches, so that the client's does not come first. */
const serverTimeout = { "grpc-timeout": "1500m" };

test("passed deadline makes a failed span, unary and streaming", async (t) => {
  const { transport, collector } = await serve(t, {
    async generate({ signal }) {
      await untilAborted(signal);
    },
    async *generateStream({ signal }) {
      yield "1";
      // An engine of its own kind: it knows that it was stopped, and not why.
      await untilAborted(signal).catch(() => Promise.reject(new DOMException("stopped", "AbortError")));
    },
  });
  const isLate = (error: unknown) => error instanceof ConnectError && error.code === Code.DeadlineExceeded;
  await assert.rejects(pipeline(transport).generate({}, { headers: serverTimeout }), isLate);
  await collector.waitFor((spans) => spans.length > 0, AbortSignal.timeout(30_000));
  assert.equal(dumpSpans(collector.spans()), late);
  collector.clear();
  const consume = async () => {
    for await (const _message of pipeline(transport).generateStream({}, { headers: serverTimeout })) {
    }
  };
  await assert.rejects(consume);
  await collector.waitFor((spans) => spans.length > 0, AbortSignal.timeout(30_000));
  assert.equal(
    dumpSpans(collector.spans()),
    late.replace(/exception.message.* /, "").replace("ConnectError", "AbortError"),
  );
});

test("unreadable JSON leaves no request text on the span of a stream", async (t) => {
  const { baseUrl, collector } = await serve(t, {});
  const session = connect(baseUrl);
  t.after(() => session.destroy());
  const body = Buffer.from(`{"request": {"prompt": {"${canary}": 1}}}`);
  const envelope = Buffer.alloc(5);
  envelope.writeUInt32BE(body.length, 1);
  const stream = session.request({
    ":method": "POST",
    ":path": "/throughline.v1.ImagePipelineService/GenerateStream",
    "content-type": "application/connect+json",
  });
  stream.end(Buffer.concat([envelope, body]));
  stream.resume();
  await once(stream, "close");
  assert.equal(
    dumpSpans(collector.spans()),
    text`
      image-pipeline SERVER image-pipeline
          rpc.response.status_code="INVALID_ARGUMENT"
          event exception exception.type="ConnectError"
    `,
  );
});

test("unsampled trace has an id and no spans", async (t) => {
  const { transport, collector } = await serve(t, {}, { environment: { OTEL_TRACES_SAMPLER: "always_off" } });
  const response = await pipeline(transport).generate({});
  assert.match(response.traceId, /^[0-9a-f]{32}$/);
  assert.deepEqual(collector.spans(), []);
});

test("unsampled trusted parent makes an unsampled trace with its id", async (t) => {
  const { transport, collector } = await serve(t, {}, { parent: "trust" });
  const headers = { traceparent: `00-${traceId}-${spanId}-00` };
  const response = await pipeline(transport).generate({}, { headers });
  assert.equal(response.traceId, traceId);
  assert.deepEqual(collector.spans(), []);
});

test("unsampled untrusted caller does not prevent sampling", async (t) => {
  const { transport, collector } = await serve(t, {});
  await pipeline(transport).generate({}, { headers: { traceparent: `00-${traceId}-${spanId}-00` } });
  assert.equal(dumpSpans(collector.spans()), `image-pipeline SERVER image-pipeline\n    link ${traceId}-${spanId}`);
});

for (const environment of [{ ENABLE_TRACING: "false" }, { OTEL_SDK_DISABLED: "true" }]) {
  test(`requests with ${Object.entries(environment).join(" ")} succeed without spans and trace id`, async (t) => {
    const { transport, collector } = await serve(
      t,
      {
        async *generateStream() {
          yield `[${traceIdOf(context.active())}]`;
        },
      },
      { environment, parent: "trust" },
    );
    assert.equal((await pipeline(transport).generate({}, { headers: callerHeaders })).traceId, "");
    for await (const { event } of pipeline(transport).generateStream({}, { headers: callerHeaders })) {
      assert.equal(event.case === "result" && event.value.traceId, "[]");
    }
    assert.deepEqual(collector.spans(), []);
  });
}
