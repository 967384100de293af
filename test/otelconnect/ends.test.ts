import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createClientInterceptor } from "../../src/otelconnect/otelconnect.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { testTelemetry } from "../support/telemetry.js";
import { type PingMesh, pingMesh, type Wire } from "./ping-mesh.js";
import { PingService } from "./ping-service.js";

type Text = MessageInitShape<typeof StringValueSchema>;

const wires: readonly Wire[] = ["memory", "grpc"];

/** Waits until the call is over, and returns the reason. */
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

/** With this reason connect-node's client resets its stream with CANCEL, as other clients do. */
const left = new ConnectError("left", Code.Canceled);

/** Collects garbage, and lets those know who asked. */
async function collectGarbage(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  assert.ok(typeof collect === "function");
  collect();
  await new Promise((resolve) => setImmediate(resolve));
}

/** Side, status and code of the spans, in no order of their ends. */
async function ends({ collector }: PingMesh, count: number): Promise<string> {
  const spans = await collector.waitFor((all) => all.length >= count, AbortSignal.timeout(30_000));
  return spans
    .map(({ kind, status, attributes }) =>
      `${kind} ${status.code} ${attributes["rpc.status_code"] ?? "-"}`.toLowerCase().replace("cancelled", "canceled"),
    )
    .sort()
    .join("\n");
}

/** Checks that no span ends twice: the SDK would log it and export the span again. */
async function noMore({ collector }: PingMesh, count: number): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(collector.spans().length, count);
}

/**
 * Whether the server hears first of its own clock or of the client that left is a race, and connect-node's client leaves with
 * INTERNAL_ERROR when its time is up.
 */
const late = /^client error deadline_exceeded\nserver (?:error deadline_exceeded|error internal|unset canceled)$/;

/** A stream that gives one message and then nothing, until its call is over. */
async function* oneThenSilence(signal: AbortSignal): AsyncGenerator<Text> {
  yield { value: "one" };
  await untilAborted(signal);
}

for (const wire of wires) {
  test(`unary call cancelled by its client is cancelled at both ends (${wire})`, async (t) => {
    const leaving = new AbortController();
    const mesh = await pingMesh(
      t,
      {
        unary: (_request, { signal }) => {
          setImmediate(() => leaving.abort(left));
          return untilAborted(signal);
        },
      },
      { wire },
    );
    await assert.rejects(mesh.client.unary({}, { signal: leaving.signal }), { code: Code.Canceled });
    assert.equal(await ends(mesh, 2), "client unset canceled\nserver unset canceled");
    await noMore(mesh, 2);
  });

  test(`server that answers CANCELLED makes an ERROR of the client span (${wire})`, async (t) => {
    const cancel = () => {
      throw new ConnectError("stopped", Code.Canceled);
    };
    const mesh = await pingMesh(
      t,
      {
        unary: cancel,
        async *serverStream() {
          yield { value: "one" };
          cancel();
        },
      },
      { wire },
    );
    await assert.rejects(mesh.client.unary({}), { code: Code.Canceled });
    assert.equal(await ends(mesh, 2), "client error canceled\nserver unset canceled");
    mesh.collector.clear();
    const read = async () => {
      for await (const _message of mesh.client.serverStream({})) {
      }
    };
    await assert.rejects(read, { code: Code.Canceled });
    assert.equal(await ends(mesh, 2), "client error canceled\nserver unset canceled");
  });

  test(`unary call over its deadline is DEADLINE_EXCEEDED at both ends (${wire})`, async (t) => {
    const mesh = await pingMesh(t, { unary: (_request, { signal }) => untilAborted(signal) }, { wire });
    await assert.rejects(mesh.client.unary({}, { timeoutMs: 1_500 }), { code: Code.DeadlineExceeded });
    assert.match(await ends(mesh, 2), late);
    await noMore(mesh, 2);
  });

  test(`stream aborted by its reader is cancelled at both ends (${wire})`, async (t) => {
    const mesh = await pingMesh(t, { serverStream: (_request, { signal }) => oneThenSilence(signal) }, { wire });
    const leaving = new AbortController();
    const read = async () => {
      for await (const _message of mesh.client.serverStream({}, { signal: leaving.signal })) {
        leaving.abort(left);
      }
    };
    await assert.rejects(read, { code: Code.Canceled });
    assert.equal(await ends(mesh, 2), "client unset canceled\nserver unset canceled");
    await noMore(mesh, 2);
  });

  test(`stream over its deadline is DEADLINE_EXCEEDED at the client, with its exception (${wire})`, async (t) => {
    const mesh = await pingMesh(t, { serverStream: (_request, { signal }) => oneThenSilence(signal) }, { wire });
    const read = async () => {
      for await (const _message of mesh.client.serverStream({}, { timeoutMs: 1_500 })) {
      }
    };
    await assert.rejects(read, { code: Code.DeadlineExceeded });
    assert.match(await ends(mesh, 2), late);
    const client = mesh.collector.spans().find(({ kind }) => kind === "CLIENT");
    assert.deepEqual(
      client?.events.map(({ attributes }) => attributes),
      [{ "exception.type": "ConnectError", "exception.message": "the operation timed out" }],
    );
    await noMore(mesh, 2);
  });

  test(`reader that breaks off and aborts later ends the client span at the abort (${wire})`, async (t) => {
    const mesh = await pingMesh(t, { serverStream: (_request, { signal }) => oneThenSilence(signal) }, { wire });
    const leaving = new AbortController();
    for await (const _message of mesh.client.serverStream({}, { signal: leaving.signal })) {
      break;
    }
    assert.deepEqual(mesh.collector.spans(), [], "the call is still there: connect tells nobody of a break");
    leaving.abort(left);
    // In memory a handler that waits at its `yield` is not notified.
    const seen = wire === "memory" ? 1 : 2;
    assert.equal(await ends(mesh, seen), ["client unset canceled", "server unset canceled"].slice(0, seen).join("\n"));
    await noMore(mesh, seen);
  });

  test(`request stream that never ends is closed with the response (${wire})`, async (t) => {
    const mesh = await pingMesh(
      t,
      {
        async clientStream(requests) {
          for await (const { value } of requests) {
            return { value };
          }
          return {};
        },
      },
      { wire },
    );
    const stop = new AbortController();
    await mesh.client.clientStream(oneThenSilence(stop.signal));
    stop.abort(left);
    const ok = wire === "grpc" ? "ok" : "-";
    assert.equal(await ends(mesh, 2), `client unset ${ok}\nserver unset ${ok}`);
    await noMore(mesh, 2);
  });

  test(`request stream that fails ends the call (${wire})`, async (t) => {
    const mesh = await pingMesh(
      t,
      {
        async clientStream(requests) {
          for await (const _request of requests) {
          }
          return {};
        },
      },
      { wire },
    );
    async function* failing(): AsyncGenerator<Text> {
      yield { value: "one" };
      throw new TypeError("canary");
    }
    await assert.rejects(mesh.client.clientStream(failing()));
    const seen = await ends(mesh, 2);
    assert.match(seen, /^client error /);
    assert.doesNotMatch(await mesh.dump(2), /canary/);
    await noMore(mesh, 2);
  });

  test(`bidirectional stream with alternating messages ends OK at both ends (${wire})`, async (t) => {
    const mesh = await pingMesh(
      t,
      {
        async *bidiStream(requests) {
          for await (const { value } of requests) {
            yield { value };
          }
        },
      },
      { wire },
    );
    let answered: () => void = () => {};
    async function* turns(): AsyncGenerator<Text> {
      for (let turn = 0; turn < 3; turn++) {
        const answer = new Promise<void>((resolve) => {
          answered = resolve;
        });
        yield { value: `${turn}` };
        await answer;
      }
    }
    for await (const _message of mesh.client.bidiStream(turns())) {
      answered();
    }
    const ok = wire === "grpc" ? "ok" : "-";
    assert.equal(await ends(mesh, 2), `client unset ${ok}\nserver unset ${ok}`);
    await noMore(mesh, 2);
  });
}

for (const wire of wires) {
  test(`abandoned stream ends when it is garbage-collected (${wire})`, async (t) => {
    const mesh = await pingMesh(t, { serverStream: (_request, { signal }) => oneThenSilence(signal) }, { wire });
    const readOne = async () => {
      for await (const _message of mesh.client.serverStream({})) {
        break;
      }
    };
    await readOne();
    assert.deepEqual(mesh.collector.spans(), []);
    for (let round = 0; round < 1000 && mesh.collector.spans().length === 0; round++) {
      await collectGarbage();
    }
    assert.equal(await ends(mesh, 1), "client unset canceled");
  });
}

test("slowly read stream is not treated as abandoned", async (t) => {
  const mesh = await pingMesh(t, {
    async *serverStream() {
      for (let i = 0; i < 4; i++) {
        yield { value: `${i}` };
      }
    },
  });
  let seen = 0;
  for await (const _message of mesh.client.serverStream({})) {
    for (let i = 0; i < 5; i++) {
      await collectGarbage();
    }
    seen += 1;
  }
  assert.equal(seen, 4);
  assert.equal(await ends(mesh, 2), "client unset -\nserver unset -");
});

const throwing: Interceptor = () => () => {
  throw new ConnectError("rejected on the way", Code.PermissionDenied);
};

test("call rejected by a later server interceptor has a span at both ends", async (t) => {
  const mesh = await pingMesh(t, { unary: () => ({}) }, { serverInterceptors: [throwing] });
  await assert.rejects(mesh.client.unary({}), { code: Code.PermissionDenied });
  assert.equal(await ends(mesh, 2), "client error permission_denied\nserver unset permission_denied");
});

test("call rejected by a later client interceptor has a CLIENT span only", async (t) => {
  const mesh = await pingMesh(t, { unary: () => ({}) }, { clientInterceptors: [throwing] });
  await assert.rejects(mesh.client.unary({}), { code: Code.PermissionDenied });
  assert.equal(
    await mesh.dump(1),
    text`
      test.v1.PingService/Unary CLIENT caller ERROR "rejected on the way"
          error.type="permission_denied"
          rpc.method="test.v1.PingService/Unary"
          rpc.status_code="permission_denied"
          rpc.system.name="connectrpc"
          server.address="in-memory"
          event exception exception.message="rejected on the way" exception.type="ConnectError"
    `,
  );
});

test("unexpected error of a later interceptor has the code that Connect gives it", async (t) => {
  const throwAtOnce: Interceptor = () => () => {
    throw new RangeError("canary");
  };
  const mesh = await pingMesh(t, { unary: () => ({}) }, { clientInterceptors: [throwAtOnce] });
  await assert.rejects(mesh.client.unary({}), { code: Code.Unknown });
  assert.equal(await ends(mesh, 1), "client error unknown");
});

test("unreachable server makes a CLIENT span without the network's error text", async (t) => {
  const { tracer, collector } = testTelemetry(t, "caller");
  // Nothing listens on the port of a server that has closed.
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  server.close();
  await once(server, "close");
  const interceptors = [createClientInterceptor({ tracer })];
  const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${address.port}`, interceptors });
  await assert.rejects(createClient(PingService, transport).unary({}), { code: Code.Unavailable });
  assert.equal(
    dumpSpans(collector.spans(), { mask: ["server.port"] }),
    text`
      test.v1.PingService/Unary CLIENT caller ERROR
          error.type="UNAVAILABLE"
          rpc.method="test.v1.PingService/Unary"
          rpc.status_code="UNAVAILABLE"
          rpc.system.name="grpc"
          server.address="127.0.0.1"
          server.port=*
          event exception exception.type="ConnectError"
    `,
  );
});
