import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { create, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { ServingStatus } from "../../../src/connect-health/health.js";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { createAccessControl } from "../../../src/mesh/access/access-control.js";
import { createCallerDirectory } from "../../../src/mesh/access/caller-directory.js";
import {
  createConnectError,
  invalidArgument,
  queueFull,
  retryDelayMsOf,
  unavailable,
  unavailableOnce,
} from "../../../src/mesh/errors/errors.js";
import { steadyPort } from "../../support/steady-port.js";
import { failure, kinds, waiting } from "../support/grpc-client.js";
import { openRelay } from "../support/relay.js";
import { connectTo, quick, serveWorker, targetOf } from "../support/workers.js";

const fail = (error: Error) => () => {
  throw error;
};
const full = (retryAfterMs: number) => fail(queueFull("all places are taken", retryAfterMs));
const lost = fail(unavailable("the engine's process died"));

suite("worker with a full queue", () => {
  test("full worker: the call goes to another replica at once, and the full one is tried last until its estimate passes", async (t) => {
    const busy = await serveWorker(t, full(60_000));
    const idle = await serveWorker(t);
    const { client, attempts, observed } = connectTo(t, targetOf(busy, idle), { loadBalancing: "pick_first" });
    for (let i = 0; i < 3; i++) {
      assert.equal(await kinds.unary(client, observed()), 7);
    }
    assert.deepEqual([busy.calls, idle.calls], [1, 3]);
    assert.deepEqual(
      attempts.map(({ number, port, code, retryReason }) => [number, port, code, retryReason]),
      [
        [1, busy.port, Code.ResourceExhausted, "the worker is full"],
        [2, idle.port, undefined, undefined],
        [1, idle.port, undefined, undefined],
        [1, idle.port, undefined, undefined],
      ],
    );
  });

  test("all workers full: each is tried without using attempts or retry budget, and the error carries the smallest delay", async (t) => {
    const workers = await Promise.all(
      [500_000, 70_000, 900_000, 800_000, 700_000, 600_000].map((ms) => serveWorker(t, full(ms))),
    );
    const { client } = connectTo(t, targetOf(...workers), { retry: { maxAttempts: 2, budget: { maxTokens: 1 } } });
    for (let i = 0; i < 2; i++) {
      const error = await failure(kinds.unary(client));
      assert.equal(error.code, Code.ResourceExhausted);
      assert.equal(
        error.rawMessage,
        "all 6 replicas of test/worker are full; the one with the shortest delay returned: all places are taken",
      );
      const delayMs = retryDelayMsOf(error) ?? Number.NaN;
      assert.ok(delayMs > 0 && delayMs <= 70_000, String(delayMs));
    }
    assert.deepEqual(
      workers.map(({ calls }) => calls),
      [2, 2, 2, 2, 2, 2],
      "a rejection is about one call: the next may have a longer deadline, or another caller",
    );
  });

  test("full worker is preferred again after one of the client's calls has ended there", async (t) => {
    const wait = waiting();
    const worker = await serveWorker(t, wait.behaviour);
    const other = await serveWorker(t);
    const { client } = connectTo(t, targetOf(worker, other), { loadBalancing: "pick_first" });
    const caller = new AbortController();
    const first = failure(kinds.unary(client, { signal: caller.signal }));
    await wait.began;
    worker.behaviour = full(60_000);
    assert.equal(await kinds.unary(client), 7);
    assert.equal(await kinds.unary(client), 7);
    assert.deepEqual([worker.calls, other.calls], [2, 2]);
    worker.behaviour = () => {};
    caller.abort();
    assert.equal((await first).code, Code.Canceled);
    assert.equal(await kinds.unary(client), 7);
    assert.deepEqual([worker.calls, other.calls], [3, 2]);
  });
});

test("retry reasons contain no text from a worker's error", async (t) => {
  const prompt = "a red heart";
  for (const error of [queueFull(prompt, 1), unavailable(prompt), unavailableOnce(prompt)]) {
    const workers = [await serveWorker(t, fail(error)), await serveWorker(t)];
    const { client, attempts, observed } = connectTo(t, targetOf(...workers), { loadBalancing: "pick_first" });
    assert.equal(await kinds.unary(client, observed()), 7);
    assert.equal(attempts.length, 2);
    assert.doesNotMatch(JSON.stringify(attempts), /heart/);
  }
});

suite("caller over its rate limit", () => {
  test("rate limit error of the first worker is returned with its delay, and the worker stays first for other callers", async (t) => {
    const caller = { name: "studio", keys: [], certificates: ["cn:studio"], mayUse: () => true };
    const rate = { perSecond: 0.001, burst: 1, label: "1 request in 1,000 seconds" };
    const current = createCallerDirectory([{ ...caller, rate }]);
    const gate = createAccessControl({ callers: { current, onChange() {}, close() {} }, now: () => 0 });
    const enter = () =>
      gate.admit({
        service: TextToImageWorkerService.typeName,
        authorization: undefined,
        peer: { address: "127.0.0.1", certificateNames: ["cn:studio"] },
      });
    enter().release();
    const gated = await serveWorker(t, () => enter().release());
    const other = await serveWorker(t);
    const { client, attempts, observed } = connectTo(t, targetOf(gated, other), { loadBalancing: "pick_first" });
    for (const kind of [kinds.unary, kinds.stream]) {
      const error = await failure(kind(client, observed()));
      assert.equal(error.code, Code.ResourceExhausted);
      assert.equal(error.rawMessage, "caller studio is over its rate limit of 1 request in 1,000 seconds");
      assert.equal(retryDelayMsOf(error), 1_000_000);
    }
    assert.deepEqual(
      attempts.map(({ port, retryReason }) => [port, retryReason]),
      [
        [gated.port, undefined],
        [gated.port, undefined],
      ],
    );
    gated.behaviour = () => {};
    await kinds.unary(client);
    assert.deepEqual([gated.calls, other.calls], [3, 0]);
  });
});

suite("retryable call", () => {
  test("retryable call goes to another worker without backoff and with the same request", async (t) => {
    const prompts: string[] = [];
    const first = await serveWorker(t, (prompt) => {
      prompts.push(prompt);
      lost();
    });
    const second = await serveWorker(t, (prompt) => void prompts.push(prompt));
    const policies = {
      loadBalancing: "pick_first",
      retry: { initialBackoffMs: 100_000, maxBackoffMs: 100_000 },
    } as const;
    const { client } = connectTo(t, targetOf(first, second), policies);
    assert.equal((await client.infer({ prompt: "same", options: { seed: 3 } })).seed, 3);
    assert.deepEqual(prompts, ["same", "same"]);
  });

  test("retryable call repeats on the only worker until its attempts are used up", async (t) => {
    const worker = await serveWorker(t, lost);
    const { client, attempts, observed } = connectTo(t, targetOf(worker));
    const error = await failure(kinds.unary(client, observed()));
    assert.deepEqual([error.code, error.rawMessage], [Code.Unavailable, "the engine's process died"]);
    assert.equal(worker.calls, 4);
    assert.deepEqual(
      attempts.map(({ number, retryReason }) => [number, retryReason]),
      [
        [1, "the worker is not available"],
        [2, "the worker is not available"],
        [3, "the worker is not available"],
        [4, undefined],
      ],
    );
  });

  test("retryable call that may have ended its worker is retried once only", async (t) => {
    const lethal = fail(unavailableOnce("the engine's process died"));
    const workers = await Promise.all([1, 2, 3, 4].map(() => serveWorker(t, lethal)));
    const { client, attempts, observed } = connectTo(t, targetOf(...workers));
    assert.equal((await failure(kinds.unary(client, observed()))).code, Code.Unavailable);
    assert.equal(
      workers.reduce((sum, { calls }) => sum + calls, 0),
      2,
    );
    assert.equal(attempts[0]?.retryReason, "the engine died during this call");
  });

  test("retryable call is not retried without budget, and is again after successful calls", async (t) => {
    const worker = await serveWorker(t, lost);
    const budget = { maxTokens: 4, tokenRatio: 1 };
    const { client } = connectTo(t, targetOf(worker), { ...quick, retry: { ...quick.retry, budget } });
    await failure(kinds.unary(client));
    assert.equal(worker.calls, 2, "4 tokens, a failure takes one, and with 2 there are no retries");
    await failure(kinds.unary(client));
    assert.equal(worker.calls, 3);
    worker.behaviour = () => {};
    await kinds.unary(client);
    await kinds.unary(client);
    await kinds.unary(client);
    worker.behaviour = lost;
    worker.behaviour = (_, context) => (worker.calls < 8 ? lost() : assert.ok(context));
    assert.equal(await kinds.unary(client), 7);
  });

  for (const [what, error] of [
    ["a message over the size limit", createConnectError({ code: Code.ResourceExhausted, message: "too large" })],
    ["an error of the caller", invalidArgument("no")],
    ["an internal failure", createConnectError({ code: Code.Internal, message: "NaN" })],
    [
      "a rejection that forbids retries",
      createConnectError({ code: Code.Unavailable, message: "no", metadata: { "grpc-retry-pushback-ms": "-1" } }),
    ],
  ] as const) {
    test(`call is not retried after ${what}`, async (t) => {
      const workers = [await serveWorker(t, fail(error)), await serveWorker(t, fail(error))];
      const { client } = connectTo(t, targetOf(...workers));
      assert.equal((await failure(kinds.unary(client))).rawMessage, error.rawMessage);
      assert.equal((workers[0]?.calls ?? 0) + (workers[1]?.calls ?? 0), 1);
    });
  }

  test("call is not retried after its caller cancels", async (t) => {
    const wait = waiting();
    const worker = await serveWorker(t, wait.behaviour);
    const { client, attempts, observed } = connectTo(t, targetOf(worker));
    const caller = new AbortController();
    const failed = failure(kinds.unary(client, { ...observed(), signal: caller.signal }));
    await wait.began;
    caller.abort();
    assert.equal((await failed).code, Code.Canceled);
    assert.deepEqual(
      attempts.map(({ code }) => code),
      [Code.Canceled],
    );
  });

  test("retryable call moves on when a worker sends no first event in time", async (t) => {
    const wait = waiting();
    const silent = await serveWorker(t);
    const other = await serveWorker(t);
    const policies = { loadBalancing: "pick_first", retry: { attemptTimeoutMs: 2_000 } } as const;
    const { client, attempts, observed } = connectTo(t, targetOf(silent, other), policies);
    // The connection and the validators are made with the first call, which takes its time.
    await kinds.unary(client);
    silent.behaviour = wait.behaviour;
    assert.equal(await kinds.unary(client, observed()), 7);
    assert.equal(attempts[0]?.retryReason, "no response from the worker in time");
    await wait.ended;
  });
});

suite("stream", () => {
  test("stream is retried before its first event and never after it", async (t) => {
    const wait = waiting();
    const dying = await serveWorker(t, wait.behaviour);
    const other = await serveWorker(t);
    const { client, attempts, observed } = connectTo(t, targetOf(dying, other), { loadBalancing: "pick_first" });
    const cases: (string | undefined)[] = [];
    const failed = failure(
      (async () => {
        for await (const { event } of client.inferStream({ request: { prompt: "x" } }, observed())) {
          cases.push(event.case);
        }
      })(),
    );
    await wait.began;
    await dying.stop({ graceMs: 0, cancelMs: 0 });
    assert.equal((await failed).message, "[unavailable] the connection to the server was lost");
    assert.deepEqual(cases, ["queued", "progress"]);
    assert.equal(await kinds.stream(client, observed()), 7);
    assert.deepEqual(
      attempts.map(({ number, port, code }) => [number, port, code]),
      [
        [1, dying.port, Code.Unavailable],
        [1, other.port, undefined],
      ],
    );
  });

  test("stream whose caller cancels ends its attempt at once", async (t) => {
    const wait = waiting();
    const worker = await serveWorker(t, wait.behaviour);
    const { client, attempts, observed } = connectTo(t, targetOf(worker));
    const caller = new AbortController();
    for await (const { event } of client.inferStream(
      { request: { prompt: "x" } },
      { ...observed(), signal: caller.signal },
    )) {
      if (event.case === "progress") {
        break;
      }
    }
    caller.abort();
    assert.deepEqual(
      attempts.map(({ code }) => code),
      [Code.Canceled],
    );
    assert.equal((await wait.ended).code, Code.Canceled);
  });
});

suite("lost worker", () => {
  test("worker lost before the first event: its calls succeed on another worker", async (t) => {
    const wait = waiting();
    const dying = await serveWorker(t, wait.behaviour);
    const other = await serveWorker(t);
    const { client, attempts, observed } = connectTo(t, targetOf(dying, other), { loadBalancing: "pick_first" });
    const call = kinds.unary(client, observed());
    await wait.began;
    await dying.stop({ graceMs: 0, cancelMs: 0 });
    assert.equal(await call, 7);
    assert.equal(attempts[0]?.retryReason, "the connection to the server was lost");
  });

  test("worker that was lost gets calls again after it returns", async (t) => {
    const first = await serveWorker(t, () => {}, await steadyPort());
    const other = await serveWorker(t);
    const { client } = connectTo(t, targetOf(first, other), { ...quick, loadBalancing: "pick_first" });
    await kinds.unary(client);
    await first.stop({ graceMs: 0, cancelMs: 0 });
    assert.equal(await kinds.unary(client), 7);
    const back = await serveWorker(t, () => {}, first.port);
    while (back.calls === 0) {
      assert.equal(await kinds.unary(client), 7);
    }
  });
});

suite("outlier detection", () => {
  test("outlier that fails at once gets no calls until its health is SERVING again", async (t) => {
    const failing = await serveWorker(t, fail(createConnectError({ code: Code.Internal, message: "NaN" })));
    const other = await serveWorker(t);
    const { client } = connectTo(t, targetOf(failing, other), {
      loadBalancing: "pick_first",
      outlierDetection: { consecutiveFailures: 2 },
    });
    for (let i = 0; i < 2; i++) {
      assert.equal((await failure(kinds.unary(client))).code, Code.Internal);
    }
    for (let i = 0; i < 3; i++) {
      assert.equal(await kinds.unary(client), 7);
    }
    assert.deepEqual([failing.calls, other.calls], [2, 3]);
    failing.behaviour = () => {};
    while (failing.calls === 2) {
      failing.health.setAll(ServingStatus.NOT_SERVING);
      assert.equal(await kinds.unary(client), 7);
      failing.health.setAll(ServingStatus.SERVING);
      assert.equal(await kinds.unary(client), 7);
    }
  });

  test("outlier is still used when ejecting it would leave too few replicas", async (t) => {
    const failing = await serveWorker(t, fail(createConnectError({ code: Code.Internal, message: "NaN" })));
    const { client } = connectTo(t, targetOf(failing), { outlierDetection: { consecutiveFailures: 1 } });
    for (let i = 0; i < 3; i++) {
      assert.equal((await failure(kinds.unary(client))).code, Code.Internal);
    }
  });
});

suite("health", () => {
  test("worker that is NOT_SERVING gets no new calls, and gets them again when SERVING", async (t) => {
    const resting = await serveWorker(t);
    const other = await serveWorker(t);
    const { client } = connectTo(t, targetOf(resting, other), { loadBalancing: "pick_first" });
    resting.health.setAll(ServingStatus.NOT_SERVING);
    for (let i = 0; i < 3; i++) {
      assert.equal(await kinds.unary(client), 7);
    }
    assert.deepEqual([resting.calls, other.calls], [0, 3]);
    resting.health.setAll(ServingStatus.SERVING);
    while (resting.calls === 0) {
      assert.equal(await kinds.unary(client), 7);
    }
  });

  test("repeated calls to an app that is down do not block the event loop", async (t) => {
    const { client } = connectTo(t, `127.0.0.1:${await steadyPort()}`, { retry: { maxAttempts: 1 } });
    assert.equal((await failure(kinds.unary(client))).code, Code.Unavailable);
    let turned = false;
    setImmediate(() => {
      turned = true;
    });
    for (let calls = 0; calls < 100 && !turned; calls++) {
      await failure(kinds.unary(client));
    }
    assert.ok(turned);
  });

  test("when no worker can be reached, the error counts those down and those draining", async (t) => {
    const [resting, down, gone] = [await serveWorker(t), await serveWorker(t), await serveWorker(t)];
    resting.health.setAll(ServingStatus.NOT_SERVING);
    await down.stop({ graceMs: 0 });
    await gone.stop({ graceMs: 0 });
    const { client } = connectTo(t, targetOf(resting, down, gone));
    for (const call of Object.values(kinds)) {
      const error = await failure(call(client));
      assert.equal(error.code, Code.Unavailable);
      assert.equal(error.rawMessage, "no replica of test/worker is reachable: 2 are down, 1 is draining or not ready");
    }
    const nameless = connectTo(t, "dns:///no-such-host.invalid:1").client;
    const error = await failure(kinds.unary(nameless));
    assert.equal(error.rawMessage, "no replica of test/worker is reachable: the target's name cannot be resolved");
  });
});

suite("third-party worker", () => {
  /** grpc-js's own server, which has no health service. */
  async function serveForeign(t: TestContext): Promise<{ port: number; server: grpc.Server }> {
    const { input, output } = TextToImageWorkerService.method.infer;
    const server = new grpc.Server();
    server.addService(
      {
        infer: {
          path: "/throughline.v1.TextToImageWorkerService/Infer",
          requestStream: false,
          responseStream: false,
          requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
          requestSerialize: (message: MessageShape<typeof input>) => Buffer.from(toBinary(input, message)),
          responseSerialize: (message: MessageShape<typeof output>) => Buffer.from(toBinary(output, message)),
          responseDeserialize: (bytes: Buffer) => fromBinary(output, bytes),
        },
      },
      {
        infer: (
          { request }: grpc.ServerUnaryCall<MessageShape<typeof input>, MessageShape<typeof output>>,
          respond: grpc.sendUnaryData<MessageShape<typeof output>>,
        ) => respond(null, create(output, { seed: request.options?.seed ?? 0 })),
      },
    );
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    t.after(() => server.forceShutdown());
    return { port, server };
  }

  test("worker without a health service is used while it can be reached", async (t) => {
    const foreign = await serveForeign(t);
    const own = await serveWorker(t);
    const { client, attempts, observed } = connectTo(t, targetOf(foreign, own), {
      ...quick,
      loadBalancing: "pick_first",
    });
    assert.equal(await kinds.unary(client, observed()), 7);
    assert.equal(attempts[0]?.port, foreign.port);
    foreign.server.forceShutdown();
    while (own.calls < 3) {
      assert.equal(await kinds.unary(client, observed()), 7);
    }
  });
});

suite("worker behind a silent network", () => {
  test("connection that drops all packets fails by keepalive, and its calls go to another worker", async (t) => {
    const wait = waiting();
    const silent = await serveWorker(t, wait.behaviour);
    const other = await serveWorker(t);
    const silentRelay = await openRelay(t, silent.port);
    const { client, attempts, observed } = connectTo(t, targetOf(silentRelay, other), {
      loadBalancing: "pick_first",
      keepalive: { timeMs: 1_000, timeoutMs: 4_000 },
    });
    const call = kinds.unary(client, observed());
    await wait.began;
    silentRelay.swallow();
    assert.equal(await call, 7);
    assert.deepEqual(
      attempts.map(({ port, code }) => [port, code]),
      [
        [silentRelay.port, Code.Unavailable],
        [other.port, undefined],
      ],
    );
  });
});

suite("deadline", () => {
  test("deadline that passes before any worker responds is reported as such", async (t) => {
    const silent = await serveWorker(t);
    const silentRelay = await openRelay(t, silent.port);
    const { client } = connectTo(t, targetOf(silentRelay));
    // The connection and the validators are made with the first call; a short deadline would go into that.
    await kinds.unary(client);
    silentRelay.swallow();
    for (const [kind, words] of [
      ["unary", "deadline exceeded: waiting for the worker's response"],
      ["stream", "deadline exceeded: waiting for the worker's response"],
    ] as const) {
      const error = await failure(kinds[kind](client, { timeoutMs: 1_500 }));
      assert.deepEqual([error.code, error.rawMessage], [Code.DeadlineExceeded, words]);
    }
  });

  test("deadline error carries the message of the last worker that had the call", async (t) => {
    const first = await serveWorker(t, lost);
    const second = await serveWorker(t, (_, { timeoutMs }) => {
      const leftMs = timeoutMs() ?? 0;
      throw createConnectError({
        code: Code.DeadlineExceeded,
        message: `deadline exceeded: step 2 of 9${leftMs < 60_000 && leftMs > 0 ? "" : ", and more than there was"}`,
      });
    });
    const { client } = connectTo(t, targetOf(first, second), { loadBalancing: "pick_first" });
    const error = await failure(kinds.unary(client, { timeoutMs: 60_000 }));
    assert.equal(error.rawMessage, "deadline exceeded: step 2 of 9");
  });

  test("retry whose backoff would pass the deadline fails at once", async (t) => {
    const worker = await serveWorker(t, lost);
    const retry = { initialBackoffMs: 100_000, maxBackoffMs: 100_000 };
    const { client } = connectTo(t, targetOf(worker), { retry });
    const error = await failure(kinds.unary(client, { timeoutMs: 50_000 }));
    assert.deepEqual([error.code, worker.calls], [Code.Unavailable, 1]);
  });
});
