import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError, createClient, createContextValues, type Interceptor } from "@connectrpc/connect";
import { ServerReflection } from "../../../src/gen/grpc/reflection/v1/reflection_pb.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { createConnectError, retryDelayMsOf, retryInfo } from "../../../src/mesh/errors/errors.js";
import { waitForReady } from "../../../src/mesh/grpc/grpc-call.js";
import { steadyPort } from "../../support/steady-port.js";
import type { Behaviour } from "../support/echo-services.js";
import { clientOf, failure, kinds, transportTo, waiting } from "../support/grpc-client.js";
import { serveEcho } from "../support/serve-echo.js";

for (const [kind, call] of Object.entries(kinds)) {
  suite(`${kind} call`, () => {
    test("call carries messages, headers and trailers", async (t) => {
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
      if (kind === "unary") {
        assert.equal(header?.get("x-header"), "one");
      }
      assert.equal(trailer?.get("x-trailer"), "two");
      assert.equal(trailer?.get("x-bytes-bin"), "AAEC");
    });

    test("call error keeps the server's code, message, details and metadata", async (t) => {
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

    test("call ends at its deadline, which the server also receives", async (t) => {
      const wait = waiting();
      let behaviour: Behaviour = () => {};
      const client = await clientOf(t, (...called) => behaviour(...called));
      // The connection and the validators are made with the first call; a short deadline would go into that.
      await call(client);
      behaviour = wait.behaviour;
      const error = await failure(call(client, { timeoutMs: 1_500 }));
      assert.equal(error.code, Code.DeadlineExceeded);
      assert.doesNotMatch(error.message, /127\.0\.0\.1/);
      assert.match(Code[(await wait.ended).code] ?? "", /DeadlineExceeded|Canceled/);
    });

    test("call has the deadline of its caller and otherwise none", async (t) => {
      let remaining: number | undefined;
      const behaviour: Behaviour = (_, { timeoutMs }) => {
        remaining = timeoutMs();
      };
      const client = await clientOf(t, behaviour);
      const inSeconds = () => (remaining === undefined ? undefined : Math.ceil(remaining / 10_000) * 10);
      await call(client);
      assert.equal(inSeconds(), undefined);
      await call(client, { timeoutMs: 30_000 });
      assert.equal(inSeconds(), 30);
      await call(client, { timeoutMs: 0 });
      assert.equal(inSeconds(), undefined);
    });

    test("call is cancelled on both sides when its signal aborts", async (t) => {
      const wait = waiting();
      const client = await clientOf(t, wait.behaviour);
      const caller = new AbortController();
      const failed = failure(call(client, { signal: caller.signal }));
      await wait.began;
      caller.abort();
      assert.equal((await failed).code, Code.Canceled);
      assert.equal((await wait.ended).code, Code.Canceled);
    });

    test("call is cancelled however soon after its start the signal aborts", async (t) => {
      const client = await clientOf(t, waiting().behaviour);
      for (let turns = 0; turns < 40; turns++) {
        const abort = new AbortController();
        const failed = failure(call(client, { signal: abort.signal }));
        for (let turn = 0; turn < turns; turn++) {
          await undefined;
        }
        abort.abort();
        assert.equal((await failed).code, Code.Canceled, `after ${turns} turns`);
      }
    });

    test("call does not start when its signal has already aborted", async (t) => {
      let calls = 0;
      const client = await clientOf(t, () => void calls++);
      const reason = createConnectError({ code: Code.Aborted, message: "my reason" });
      assert.equal(await failure(call(client, { signal: AbortSignal.abort(reason) })), reason);
      assert.equal(calls, 0);
    });

    test("call passes through interceptors", async (t) => {
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

    test("interceptor receives the failure of a call as the ConnectError that the caller receives", async (t) => {
      const seen: unknown[] = [];
      const record = (error: unknown): never => {
        seen.push(error);
        throw error;
      };
      async function* recorded<T>(messages: AsyncIterable<T>) {
        try {
          yield* messages;
        } catch (error) {
          record(error);
        }
      }
      const interceptor: Interceptor = (next) => async (request) => {
        const response = await next(request).catch(record);
        return response.stream ? { ...response, message: recorded(response.message) } : response;
      };
      const thrown = createConnectError({ code: Code.ResourceExhausted, message: "the queue is full" });
      const client = await clientOf(t, () => Promise.reject(thrown), { interceptors: [interceptor] });
      await failure(call(client));
      assert.deepEqual(
        seen.map((error) => error instanceof ConnectError && error.message),
        ["[resource_exhausted] the queue is full"],
      );

      seen.length = 0;
      const wait = waiting();
      const late = await clientOf(t, wait.behaviour, { interceptors: [interceptor] });
      await failure(call(late, { timeoutMs: 50 }));
      assert.deepEqual(
        seen.map((error) => error instanceof ConnectError && error.code),
        [Code.DeadlineExceeded],
      );
    });

    test("call to an address without a server is UNAVAILABLE with a readable message", async (t) => {
      const port = await steadyPort();
      for (const target of [`127.0.0.1:${port}`, `dns:///localhost:${port}`, "unix:/nonexistent/worker.sock"]) {
        const client = createClient(TextToImageWorkerService, transportTo(t, target));
        const error = await failure(call(client));
        assert.equal(error.message, "[unavailable] no replica of test/worker is reachable: 1 is down", target);
      }
    });

    test("call is UNAVAILABLE with a readable message when the server is lost", async (t) => {
      const wait = waiting();
      const { port, stop } = await serveEcho(t, { behaviour: wait.behaviour });
      const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`));
      const failed = failure(call(client));
      await wait.began;
      await stop({ graceMs: 0, cancelMs: 0 });
      assert.equal((await failed).message, "[unavailable] the connection to the server was lost");
    });

    test("call rejects a response over the size limit with RESOURCE_EXHAUSTED", async (t) => {
      const { port } = await serveEcho(t);
      const transport = transportTo(t, `127.0.0.1:${port}`, { policies: { messages: { maxReceiveBytes: 10 } } });
      const error = await failure(call(createClient(TextToImageWorkerService, transport)));
      assert.equal(error.code, Code.ResourceExhausted);
    });

    test("call rejects a request over the size limit with RESOURCE_EXHAUSTED", async (t) => {
      const { port } = await serveEcho(t);
      const transport = transportTo(t, `127.0.0.1:${port}`, { policies: { messages: { maxSendBytes: 2 } } });
      const error = await failure(call(createClient(TextToImageWorkerService, transport)));
      assert.equal(error.code, Code.ResourceExhausted);
    });

    test("call can wait for a server that starts later", async (t) => {
      const port = await steadyPort();
      const policies = { reconnect: { initialBackoffMs: 50 } };
      const client = createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`, { policies }));
      const waits = call(client, { contextValues: createContextValues().set(waitForReady, true), timeoutMs: 20_000 });
      await failure(call(client));
      await serveEcho(t, { port });
      assert.equal(await waits, 7);
    });
  });
}

suite("streams", () => {
  test("stream delivers messages as they arrive and stops when the caller breaks off", async (t) => {
    const wait = waiting();
    const client = await clientOf(t, wait.behaviour);
    const caller = new AbortController();
    const cases: (string | undefined)[] = [];
    for await (const { event } of client.inferStream({ request: { prompt: "x" } }, { signal: caller.signal })) {
      cases.push(event.case);
      if (event.case === "progress") {
        break;
      }
    }
    assert.deepEqual(cases, ["queued", "progress"]);
    caller.abort();
    assert.equal((await wait.ended).code, Code.Canceled);
  });

  test("stream that fails delivers the earlier messages first", async (t) => {
    const client = await clientOf(t, () => Promise.reject(createConnectError({ code: Code.Internal, message: "NaN" })));
    const cases: (string | undefined)[] = [];
    const error = await failure(
      (async () => {
        for await (const { event } of client.inferStream({ request: { prompt: "x" } })) {
          cases.push(event.case);
        }
      })(),
    );
    assert.deepEqual(cases, ["queued", "progress"]);
    assert.equal(error.message, "[internal] NaN");
  });

  test("stream is bidirectional", async (t) => {
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

  test("stream fails when its request iterable fails", async (t) => {
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
