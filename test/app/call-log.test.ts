import assert from "node:assert/strict";
import { constants } from "node:http2";
import { type TestContext, test } from "node:test";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  createRouterTransport,
  type HandlerContext,
} from "@connectrpc/connect";
import * as z from "zod";
import { addLogFields, createCallLog } from "../../src/app/call-log.js";
import { createLogger } from "../../src/app/observe.js";
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { callerContextKey } from "../../src/mesh/access/callers.js";
import { deadlineExceeded, internal, unavailable } from "../../src/mesh/errors/errors.js";
import { createServerSpanInterceptor } from "../../src/trace/server-span-interceptor.js";
import { clientPreface, frame, frameFlag, frameType, headerBlock } from "../mesh/support/http2-frames.js";
import { connectHttp2, connectTcp } from "../mesh/support/raw-http.js";
import { serveEcho } from "../mesh/support/serve-echo.js";
import { testTelemetry } from "../support/telemetry.js";

const lineSchema = z.looseObject({
  level: z.string(),
  time: z.iso.datetime(),
  service: z.literal("worker"),
  msg: z.string(),
});

/** A worker with a scripted outcome, and its log. */
function worker(t: TestContext, behaviour: (call: HandlerContext) => void, services = [TextToImageWorkerService]) {
  const lines: string[] = [];
  const telemetry = testTelemetry(t, "worker");
  const logger = createLogger({ service: "worker", level: "debug", write: (line) => lines.push(line) });
  const routes = (router: ConnectRouter) => {
    router.service(TextToImageWorkerService, {
      async infer(_, call) {
        behaviour(call);
        return {};
      },
      async *inferStream(_, call) {
        yield {};
        behaviour(call);
        yield {};
      },
    });
  };
  const interceptors = [
    createCallLog({ logger, services }),
    createServerSpanInterceptor({ ...telemetry, name: "generation", services: [TextToImageWorkerService] }),
  ];
  const transport = createRouterTransport(routes, { router: { interceptors } });
  return {
    client: createClient(TextToImageWorkerService, transport),
    logger,
    lines,
    /** The lines, without what no two runs have in common. */
    logged: () =>
      lines.map((text) => {
        const { time, durationMs, trace_id, span_id, ...line } = lineSchema.parse(JSON.parse(text));
        return line;
      }),
    spans: () => telemetry.collector.spans(),
  };
}

const infer = "throughline.v1.TextToImageWorkerService/Infer";
const inferStream = "throughline.v1.TextToImageWorkerService/InferStream";
const common = { service: "worker", trace_flags: "01" };

test("unary and streaming calls each log one line with their span", async (t) => {
  const { client, logged, lines, spans } = worker(t, () => {});
  await client.infer({ prompt: "CANARY" });
  for await (const _ of client.inferStream({ request: { prompt: "CANARY" } })) {
    // To the end.
  }
  assert.deepEqual(logged(), [
    { level: "info", method: infer, code: "OK", ...common, msg: "call answered" },
    { level: "info", method: inferStream, code: "OK", ...common, msg: "call answered" },
  ]);
  const ids = lines.map((line) => JSON.parse(line)).map(({ trace_id, span_id }) => [trace_id, span_id]);
  assert.deepEqual(
    ids,
    spans().map(({ traceId, spanId }) => [traceId, spanId]),
  );
  assert.doesNotMatch(lines.join(""), /CANARY/);
});

for (const { what, thrown, line } of [
  {
    what: "caller's error is logged as info without its cause",
    thrown: new ConnectError("bad", Code.InvalidArgument, undefined, undefined, new Error("CANARY")),
    line: { level: "info", code: "INVALID_ARGUMENT" },
  },
  {
    what: "server error without a cause is logged as a warning",
    thrown: unavailable("no worker can be reached"),
    line: { level: "warn", code: "UNAVAILABLE", reason: "no worker can be reached" },
  },
  {
    what: "exceeded deadline is logged as a warning without the abort behind it",
    thrown: deadlineExceeded("step 3 of 20", new DOMException("aborted", "AbortError")),
    line: { level: "warn", code: "DEADLINE_EXCEEDED", reason: "deadline exceeded: step 3 of 20" },
  },
  {
    what: "masked cause makes a server error an error in the log",
    thrown: internal("the image cannot be kept", new RangeError("no space")),
    line: { level: "error", code: "INTERNAL", reason: "the image cannot be kept", err: "RangeError: no space" },
  },
  {
    what: "any thrown value is logged as a masked cause",
    thrown: new TypeError("x is not a function"),
    line: { level: "error", code: "INTERNAL", err: "TypeError: x is not a function" },
  },
]) {
  test(what, async (t) => {
    const { client, logged } = worker(t, () => {
      throw thrown;
    });
    await assert.rejects(client.infer({}));
    await assert.rejects(async () => {
      for await (const _ of client.inferStream({})) {
        // To the failure.
      }
    });
    const seen = logged().map(({ err, ...rest }) => {
      const { type, message } = z.object({ type: z.string(), message: z.string() }).optional().parse(err) ?? {};
      return { ...rest, ...(type !== undefined && { err: `${type}: ${message}` }) };
    });
    const expected = (method: string) => ({ ...common, method, ...line, msg: "call failed" });
    assert.deepEqual(seen, [expected(infer), expected(inferStream)]);
  });
}

test("handler adds fields to the line of its own call", async (t) => {
  let model: string | undefined = "a/model";
  const { client, logged } = worker(t, (call) => {
    if (model !== undefined) {
      addLogFields(call, { workerApp: "local/worker" });
      addLogFields(call, { model });
    }
  });
  await client.infer({});
  model = undefined;
  await client.infer({});
  assert.deepEqual(
    logged().map(({ workerApp, model }) => [workerApp, model]),
    [
      ["local/worker", "a/model"],
      [undefined, undefined],
    ],
  );
});

test("calls of other services are logged at debug, and their failures at the usual level", async (t) => {
  let fail = false;
  const behaviour = () => {
    if (fail) {
      throw new Error("broken");
    }
  };
  const { client, logged } = worker(t, behaviour, []);
  await client.infer({});
  fail = true;
  await assert.rejects(client.infer({}));
  assert.deepEqual(
    logged().map(({ level }) => level),
    ["debug", "error"],
  );
});

test("named caller is in the log line", async () => {
  const lines: string[] = [];
  const log = createCallLog({
    logger: createLogger({ service: "worker", level: "info", write: (line) => lines.push(line) }),
    services: [TextToImageWorkerService],
  });
  const transport = createRouterTransport(
    (router) => void router.service(TextToImageWorkerService, { infer: () => ({}) }),
    {
      router: {
        interceptors: [
          (next) => (request) => {
            request.contextValues.set(callerContextKey, { name: "web", countKey: "web", mayUse: () => true });
            return next(request);
          },
          log,
        ],
      },
    },
  );
  await createClient(TextToImageWorkerService, transport).infer({});
  assert.equal(JSON.parse(lines[0] ?? "").caller, "web");
  assert.equal(JSON.parse(lines[0] ?? "").trace_id, undefined, "there is no span");
});

test("log lines during a span have its ids, and later ones have none", async (t) => {
  const { logger, lines, client, spans } = worker(t, () => {
    logger.info("inside");
    void afterwards.then(() => logger.info("long after"));
  });
  let end = () => {};
  const afterwards = new Promise<void>((resolve) => {
    end = resolve;
  });
  await client.infer({});
  end();
  await afterwards;
  const [inside, call, after] = lines.map((line) => JSON.parse(line));
  assert.equal(inside.span_id, spans()[0]?.spanId);
  assert.equal(call.span_id, inside.span_id);
  assert.deepEqual([after.msg, after.trace_id, after.span_id], ["long after", undefined, undefined]);
});

const reflect = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const wholeMessage = Buffer.alloc(5);
const partOfMessage = Buffer.from([0, 0, 0, 0, 9, 1]);

/** A server whose next log line and next begun call can be awaited. */
async function loggingServer(t: TestContext) {
  let write: (line: string) => void = () => {};
  const line = new Promise<string>((resolve) => {
    write = resolve;
  });
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const logger = createLogger({ service: "worker", level: "debug", write });
  const { port } = await serveEcho(t, {
    interceptors: [
      createCallLog({ logger, services: [ServerReflection, TextToImageWorkerService] }),
      (next) => (request) => {
        begin();
        return next(request);
      },
    ],
  });
  return { port, begun, line };
}

function assertCancelled(line: string): void {
  const { level, code, err, reason } = JSON.parse(line);
  assert.deepEqual([level, code, err, reason], ["info", "CANCELLED", undefined, undefined]);
}

for (const [where, data] of [
  ["between two messages", wholeMessage],
  ["inside a message", partOfMessage],
] as const) {
  test(`reset of a bidi stream ${where} is logged as CANCELLED without a stack`, async (t) => {
    const { port, begun, line } = await loggingServer(t);
    const socket = await connectTcp(t, port);
    const head = headerBlock({
      ":method": "POST",
      ":scheme": "http",
      ":authority": "x",
      ":path": reflect,
      "content-type": "application/grpc",
      te: "trailers",
    });
    socket.write(clientPreface);
    socket.write(frame(frameType.headers, frameFlag.endHeaders, 1, head));
    socket.write(frame(frameType.data, 0, 1, data));
    await begun;
    socket.write(frame(frameType.rstStream, 0, 1, Buffer.from([0, 0, 0, 8])));
    assertCancelled(await line);
  });
}

for (const [what, path, data] of [
  ["bidi stream between two messages", reflect, wholeMessage],
  ["bidi stream inside a message", reflect, partOfMessage],
  ["server stream inside its request", `/${inferStream}`, partOfMessage],
] as const) {
  test(`${what} that Node's client resets, after END_STREAM, is logged as CANCELLED`, async (t) => {
    const { port, begun, line } = await loggingServer(t);
    const session = connectHttp2(t, `http://127.0.0.1:${port}`);
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => {});
    stream.write(data);
    if (path === reflect) {
      await begun;
    } else {
      // The interceptors of a call with one request message run once that is read, so the server is asked another thing meanwhile.
      await new Promise((resolve) => session.ping(resolve));
    }
    stream.close(constants.NGHTTP2_CANCEL);
    assertCancelled(await line);
  });
}
