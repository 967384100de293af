import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import {
  type CallOptions,
  Code,
  ConnectError,
  createClient,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { createConnectError } from "../../src/mesh/connect-error.js";
import { waitForReady } from "../../src/mesh/grpc-call-options.js";
import { type ChannelOptions, createChannel } from "../../src/mesh/grpc-channel.js";
import { createGrpcTransport, type GrpcTransportOptions } from "../../src/mesh/grpc-transport.js";
import { retryDelayMsOf, retryInfo } from "../../src/mesh/retry-info.js";
import type { Behaviour } from "./support/echo-services.js";
import { serveEcho } from "./support/serve-echo.js";

function transportTo(
  t: TestContext,
  target: string,
  options: Omit<GrpcTransportOptions, "channel"> = {},
  channelOptions: Partial<ChannelOptions> = {},
) {
  const channel = createChannel({ target, ...channelOptions });
  t.after(() => channel.close());
  return createGrpcTransport({ channel, ...options });
}

/** A client of a fresh server whose calls behave so. */
async function clientOf(t: TestContext, behaviour?: Behaviour, options: Omit<GrpcTransportOptions, "channel"> = {}) {
  const { port } = await serveEcho(t, behaviour === undefined ? {} : { behaviour });
  return createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`, options));
}

/** Waits for the call's signal; `began` and `ended` tell of it. */
function waiting() {
  let onBegan: () => void = () => {};
  let onEnded: (reason: ConnectError) => void = () => {};
  const began = new Promise<void>((resolve) => (onBegan = resolve));
  const ended = new Promise<ConnectError>((resolve) => (onEnded = resolve));
  const behaviour: Behaviour = (_, { signal }) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => {
        onEnded(ConnectError.from(signal.reason));
        reject(signal.reason);
      });
      onBegan();
    });
  return { behaviour, began, ended };
}

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(
    () => assert.fail("the call succeeded"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ConnectError, String(error));
  return error;
}

/** Both kinds of call, as a promise of the last message's model. */
const kinds = {
  unary: async (client: Awaited<ReturnType<typeof clientOf>>, options?: CallOptions) =>
    (await client.infer({ prompt: "x", options: { seed: 7 } }, options)).seed,
  stream: async (client: Awaited<ReturnType<typeof clientOf>>, options?: CallOptions) => {
    let seed: number | undefined;
    for await (const { event } of client.inferStream({ request: { prompt: "x", options: { seed: 7 } } }, options)) {
      if (event.case === "result") seed = event.value.seed;
    }
    return seed;
  },
};

for (const [kind, call] of Object.entries(kinds)) {
  suite(`a ${kind} call`, () => {
    test("carries messages, headers and trailers", async (t) => {
      let seen: Headers | undefined;
      const client = await clientOf(t, (_, context) => {
        seen = context.requestHeader;
        context.responseHeader.set("x-header", "one");
        context.responseTrailer.set("x-trailer", "two");
        context.responseTrailer.set("x-bytes-bin", "AAEC");
      });
      let header: Headers | undefined;
      let trailer: Headers | undefined;
      const seed = await call(client, {
        headers: { "x-text": "hello", "x-raw-bin": "/v8", "grpc-internal": "dropped", "user-agent": "dropped" },
        onHeader: (headers) => (header = headers),
        onTrailer: (headers) => (trailer = headers),
      });
      assert.equal(seed, 7);
      assert.equal(seen?.get("x-text"), "hello");
      assert.equal(seen?.get("x-raw-bin"), "/v8=");
      assert.equal(seen?.get("grpc-internal"), null);
      assert.match(seen?.get("user-agent") ?? "", /grpc-node-js/);
      // A stream's headers leave before the handler gets to set its own.
      if (kind === "unary") assert.equal(header?.get("x-header"), "one");
      assert.equal(trailer?.get("x-trailer"), "two");
      assert.equal(trailer?.get("x-bytes-bin"), "AAEC");
    });

    test("keeps a server's code, message, details and metadata", async (t) => {
      const thrown = createConnectError({
        code: Code.ResourceExhausted,
        message: "the queue is full \u{1f496} 100 %",
        details: [retryInfo(250)],
        metadata: { "x-queue": "4" },
      });
      const client = await clientOf(t, () => Promise.reject(thrown));
      const error = await failure(call(client));
      assert.equal(error.code, Code.ResourceExhausted);
      assert.equal(error.rawMessage, "the queue is full \u{1f496} 100 %");
      assert.equal(retryDelayMsOf(error), 250);
      // No field of HTTP or gRPC: a server that passes the error on would answer with them.
      assert.deepEqual([...error.metadata], [["x-queue", "4"]]);
    });

    test("ends at its deadline, which the server knows too", async (t) => {
      const wait = waiting();
      const client = await clientOf(t, wait.behaviour);
      const error = await failure(call(client, { timeoutMs: 100 }));
      assert.equal(error.code, Code.DeadlineExceeded);
      assert.doesNotMatch(error.message, /127\.0\.0\.1/);
      assert.match(Code[(await wait.ended).code] ?? "", /DeadlineExceeded|Canceled/);
    });

    test("has the transport's deadline, unless it brings its own", async (t) => {
      let remaining: number | undefined;
      const behaviour: Behaviour = (_, { timeoutMs }) => {
        remaining = timeoutMs();
      };
      const client = await clientOf(t, behaviour, { defaultTimeoutMs: 60_000 });
      const inSeconds = () => (remaining === undefined ? undefined : Math.ceil(remaining / 10_000) * 10);
      await call(client);
      assert.equal(inSeconds(), 60);
      await call(client, { timeoutMs: 30_000 });
      assert.equal(inSeconds(), 30);
      await call(client, { timeoutMs: 0 });
      assert.equal(inSeconds(), undefined);
    });

    test("is cancelled on both sides when its signal aborts", async (t) => {
      const wait = waiting();
      const client = await clientOf(t, wait.behaviour);
      const caller = new AbortController();
      const failed = failure(call(client, { signal: caller.signal }));
      await wait.began;
      caller.abort();
      assert.equal((await failed).code, Code.Canceled);
      assert.equal((await wait.ended).code, Code.Canceled);
    });

    test("does not begin when its signal has aborted", async (t) => {
      let calls = 0;
      const client = await clientOf(t, () => void calls++);
      const reason = createConnectError({ code: Code.Aborted, message: "my reason" });
      assert.equal(await failure(call(client, { signal: AbortSignal.abort(reason) })), reason);
      assert.equal(calls, 0);
    });

    test("passes through interceptors", async (t) => {
      const seen: string[] = [];
      const interceptor: Interceptor = (next) => (request) => {
        seen.push(`${request.service.typeName}/${request.method.name} ${request.stream ? "stream" : "unary"}`);
        request.header.set("x-from", "interceptor");
        return next(request);
      };
      let header: string | null = null;
      const behaviour: Behaviour = (_, context) => {
        header = context.requestHeader.get("x-from");
      };
      const client = await clientOf(t, behaviour, { interceptors: [interceptor] });
      await call(client);
      assert.equal(header, "interceptor");
      assert.equal(seen.length, 1);
    });

    test("is UNAVAILABLE in plain words where nobody listens", async (t) => {
      const { port, stop } = await serveEcho(t);
      await stop({ graceMs: 0 });
      for (const target of [`127.0.0.1:${port}`, `dns:///localhost:${port}`, "unix:/nonexistent/worker.sock"]) {
        const client = createClient(TextToImageWorkerService, transportTo(t, target));
        const error = await failure(call(client));
        assert.equal(error.message, "[unavailable] the server cannot be reached", target);
        assert.match(String(error.cause), /ECONNREFUSED|ENOENT|No connection/);
      }
    });

    test("is UNAVAILABLE in plain words when the server is lost", async (t) => {
      const wait = waiting();
      const { port, stop } = await serveEcho(t, { behaviour: wait.behaviour });
      const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`));
      const failed = failure(call(client));
      await wait.began;
      await stop({ graceMs: 0, cancelMs: 0 });
      assert.equal((await failed).message, "[unavailable] the connection to the server was lost");
    });

    test("refuses an answer that is too large", async (t) => {
      const { port } = await serveEcho(t);
      const transport = transportTo(t, `127.0.0.1:${port}`, {}, { maxReceiveBytes: 10 });
      const error = await failure(call(createClient(TextToImageWorkerService, transport)));
      assert.equal(error.code, Code.ResourceExhausted);
    });

    test("refuses to send a request that is too large", async (t) => {
      const { port } = await serveEcho(t);
      const transport = transportTo(t, `127.0.0.1:${port}`, {}, { maxSendBytes: 2 });
      const error = await failure(call(createClient(TextToImageWorkerService, transport)));
      assert.equal(error.code, Code.ResourceExhausted);
    });

    test("may wait for a server that comes later", async (t) => {
      const { port, stop } = await serveEcho(t);
      await stop({ graceMs: 0 });
      const channelOptions = { grpcOptions: { "grpc.initial_reconnect_backoff_ms": 50 } };
      const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`, {}, channelOptions));
      const waits = call(client, { contextValues: createContextValues().set(waitForReady, true), timeoutMs: 20_000 });
      await failure(call(client));
      await serveEcho(t, { port });
      assert.equal(await waits, 7);
    });
  });
}

suite("streams", () => {
  test("deliver messages as they come, and stop when the caller has seen enough", async (t) => {
    const wait = waiting();
    const client = await clientOf(t, wait.behaviour);
    const caller = new AbortController();
    const cases: (string | undefined)[] = [];
    for await (const { event } of client.inferStream({ request: { prompt: "x" } }, { signal: caller.signal })) {
      cases.push(event.case);
      if (event.case === "progress") break;
    }
    assert.deepEqual(cases, ["queued", "progress"]);
    caller.abort();
    assert.equal((await wait.ended).code, Code.Canceled);
  });

  test("fail with what went before them", async (t) => {
    const client = await clientOf(t, () => Promise.reject(createConnectError({ code: Code.Internal, message: "NaN" })));
    const cases: (string | undefined)[] = [];
    const error = await failure(
      (async () => {
        for await (const { event } of client.inferStream({ request: { prompt: "x" } })) cases.push(event.case);
      })(),
    );
    assert.deepEqual(cases, ["queued", "progress"]);
    assert.equal(error.message, "[internal] NaN");
  });

  test("go both ways", async (t) => {
    const { port } = await serveEcho(t);
    const client = createClient(ServerReflection, transportTo(t, `127.0.0.1:${port}`));
    let answered: () => void = () => {};
    async function* requests() {
      for (let i = 0; i < 3; i++) {
        const answer = new Promise<void>((resolve) => (answered = resolve));
        yield { messageRequest: { case: "listServices", value: "" } } as const;
        await answer;
      }
    }
    let count = 0;
    for await (const { messageResponse } of client.serverReflectionInfo(requests())) {
      assert.equal(messageResponse.case, "listServicesResponse");
      count++;
      answered();
    }
    assert.equal(count, 3);
  });

  test("fail when their own requests do", async (t) => {
    const { port } = await serveEcho(t);
    const client = createClient(ServerReflection, transportTo(t, `127.0.0.1:${port}`));
    // biome-ignore lint/correctness/useYield: it fails before it has anything to send
    async function* requests(): AsyncGenerator<never> {
      throw createConnectError({ code: Code.DataLoss, message: "no more" });
    }
    const error = await failure(client.serverReflectionInfo(requests())[Symbol.asyncIterator]().next());
    assert.equal(error.code, Code.DataLoss);
  });
});

suite("channels", () => {
  test("reach a server on a Unix socket", async (t) => {
    const { port } = await serveEcho(t);
    const folder = await mkdtemp(join(tmpdir(), "mesh-"));
    t.after(() => rm(folder, { recursive: true }));
    const path = join(folder, "worker.sock");
    const relay = net.createServer((socket) => void socket.pipe(net.connect(port, "127.0.0.1")).pipe(socket));
    relay.listen(path);
    await once(relay, "listening");
    t.after(() => relay.close());
    const client = createClient(TextToImageWorkerService, transportTo(t, `unix:${path}`));
    assert.equal(await kinds.unary(client), 7);
  });

  test("notice by keepalive that the other side is gone, though the connection stands", async (t) => {
    const { port } = await serveEcho(t, { behaviour: () => new Promise(() => {}) });
    let upstream: net.Socket | undefined;
    let downstream: net.Socket | undefined;
    let arrived: () => void = () => {};
    const talking = new Promise<void>((resolve) => (arrived = resolve));
    const relay = net.createServer((socket) => {
      downstream = socket;
      upstream = net.connect(port, "127.0.0.1");
      upstream.on("error", () => {});
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        upstream?.write(chunk);
        if (chunk.includes("/throughline")) arrived();
        else if (chunk.length > 60) arrived();
      });
      upstream.on("data", (chunk) => socket.write(chunk));
    });
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    t.after(() => {
      relay.close();
      upstream?.destroy();
      downstream?.destroy();
    });
    const address = relay.address();
    assert.ok(typeof address === "object" && address !== null);
    const keepalive = { keepaliveTimeMs: 100, keepaliveTimeoutMs: 100 };
    const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${address.port}`, {}, keepalive));
    const failed = failure(client.infer({ prompt: "x" }));
    await talking;
    upstream?.pause();
    upstream?.removeAllListeners("data");
    assert.equal((await failed).code, Code.Unavailable);
  });

  test("are closed for good", async (t) => {
    const { port } = await serveEcho(t);
    const channel = createChannel({ target: `127.0.0.1:${port}` });
    const client = createClient(TextToImageWorkerService, createGrpcTransport({ channel }));
    assert.equal(await kinds.unary(client), 7);
    channel.close();
    for (const call of Object.values(kinds)) {
      assert.equal((await failure(call(client))).message, "[unavailable] the channel is closed");
    }
  });

  test("serve several services", async (t) => {
    const { port } = await serveEcho(t);
    const transport = transportTo(t, `127.0.0.1:${port}`);
    assert.equal((await createClient(ImagePipelineService, transport).generate({ prompt: "x" })).model, "echo");
    assert.equal((await createClient(TextToImageWorkerService, transport).infer({ prompt: "x" })).model, "");
  });

  test("refuse a target that cannot be parsed", () => {
    assert.throws(() => createChannel({ target: "" }));
  });
});
