import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type StringValue, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { text } from "../support/dump-spans.js";
import { type PingMesh, pingMesh, type Wire } from "./ping-mesh.js";
import type { PingService } from "./ping-service.js";

type Text = MessageInitShape<typeof StringValueSchema>;

const kinds = ["unary", "serverStream", "clientStream", "bidiStream"] as const;
type Kind = (typeof kinds)[number];

const methodOf = (kind: Kind) => `test.v1.PingService/${kind[0]?.toUpperCase()}${kind.slice(1)}`;

async function* two(): AsyncGenerator<Text> {
  yield { value: "one" };
  yield { value: "two" };
}

/** Echoes every message, then calls `then`. */
function echo(then: () => void): ServiceImpl<typeof PingService> {
  const answer = (value: string) => {
    then();
    return create(StringValueSchema, { value });
  };
  return {
    unary: async ({ value }) => answer(value),
    async *serverStream({ value }) {
      yield { value };
      yield answer(value);
    },
    async clientStream(requests) {
      let last = "";
      for await (const { value } of requests) {
        last = value;
      }
      return answer(last);
    },
    async *bidiStream(requests) {
      for await (const { value } of requests) {
        yield { value };
      }
      yield answer("");
    },
  };
}

async function call({ client }: PingMesh, kind: Kind): Promise<void> {
  switch (kind) {
    case "unary":
      await client.unary({ value: "a" });
      return;
    case "clientStream":
      await client.clientStream(two());
      return;
    case "serverStream":
    case "bidiStream":
      for await (const _message of kind === "serverStream" ? client.serverStream({}) : client.bidiStream(two())) {
      }
  }
}

const wires: readonly { wire: Wire; system: "grpc" | "connectrpc"; server: readonly string[] }[] = [
  { wire: "memory", system: "connectrpc", server: ['server.address="in-memory"'] },
  { wire: "grpc", system: "grpc", server: ['server.address="127.0.0.1"', "server.port=*"] },
  { wire: "grpc-web", system: "grpc", server: ['server.address="127.0.0.1"', "server.port=*"] },
  { wire: "connect", system: "connectrpc", server: ['server.address="127.0.0.1"', "server.port=*"] },
];

/** The complete dump of a call's two spans. */
function expected(
  kind: Kind,
  { system, server }: (typeof wires)[number],
  end: {
    readonly status?: string;
    readonly clientError?: string;
    readonly serverError?: string;
    readonly event?: string;
  },
): string {
  const span = (side: "CLIENT caller" | "SERVER callee", error: string | undefined, indent: string) => {
    const attributes = [
      ...(error === undefined ? [] : [`error.type="${end.status}"`]),
      `rpc.method="${methodOf(kind)}"`,
      ...(end.status === undefined ? [] : [`rpc.status_code="${end.status}"`]),
      `rpc.system.name="${system}"`,
      ...server,
      ...(end.event === undefined ? [] : [end.event]),
    ];
    return [`${methodOf(kind)} ${side}${error ?? ""}`, ...attributes.map((line) => `    ${line}`)]
      .map((line) => indent + line)
      .join("\n");
  };
  return [span("CLIENT caller", end.clientError, ""), span("SERVER callee", end.serverError, "  ")].join("\n");
}

for (const there of wires) {
  // HTTP/1.1 has no full duplex, and Connect rejects it.
  const possible = kinds.filter((kind) => there.wire !== "connect" || kind !== "bidiStream");

  for (const kind of possible) {
    test(`${kind} over ${there.wire}: successful call makes a CLIENT span with a SERVER child`, async (t) => {
      const mesh = await pingMesh(
        t,
        echo(() => {}),
        { wire: there.wire },
      );
      await call(mesh, kind);
      assert.equal(await mesh.dump(2), expected(kind, there, there.system === "grpc" ? { status: "OK" } : {}));
    });

    test(`${kind} over ${there.wire}: server failure is an ERROR at both ends`, async (t) => {
      const fail = () => {
        throw new ConnectError("no worker", Code.Unavailable);
      };
      const mesh = await pingMesh(t, echo(fail), { wire: there.wire });
      await assert.rejects(call(mesh, kind), { code: Code.Unavailable });
      const error = ' ERROR "no worker"';
      const status = there.system === "grpc" ? "UNAVAILABLE" : "unavailable";
      const event = 'event exception exception.message="no worker" exception.type="ConnectError"';
      assert.equal(
        await mesh.dump(2),
        expected(kind, there, { status, clientError: error, serverError: error, event }),
      );
    });

    test(`${kind} over ${there.wire}: client error is an ERROR of the client span only`, async (t) => {
      const reject = () => {
        throw new ConnectError("no such thing", Code.NotFound);
      };
      const mesh = await pingMesh(t, echo(reject), { wire: there.wire });
      await assert.rejects(call(mesh, kind), { code: Code.NotFound });
      const status = there.system === "grpc" ? "NOT_FOUND" : "not_found";
      const event = 'event exception exception.message="no such thing" exception.type="ConnectError"';
      const clientError = ' ERROR "no such thing"';
      assert.equal(await mesh.dump(2), expected(kind, there, { status, clientError, event }));
    });

    test(`${kind} over ${there.wire}: text of an unexpected handler error is not recorded`, async (t) => {
      const throwAtOnce = () => {
        throw new TypeError("canary");
      };
      const mesh = await pingMesh(t, echo(throwAtOnce), { wire: there.wire });
      await assert.rejects(call(mesh, kind), { code: Code.Internal });
      const dump = await mesh.dump(2);
      assert.match(dump, /SERVER callee ERROR\n/);
      assert.match(dump, /event exception exception.type="TypeError"/);
      assert.doesNotMatch(dump, /canary/);
    });
  }
}

test("complete span dump of one failed call", async (t) => {
  const fail = () => {
    throw new ConnectError("plain words", Code.DataLoss);
  };
  const mesh = await pingMesh(t, echo(fail), { wire: "grpc" });
  await assert.rejects(call(mesh, "unary"));
  assert.equal(
    await mesh.dump(2),
    text`
      test.v1.PingService/Unary CLIENT caller ERROR "plain words"
          error.type="DATA_LOSS"
          rpc.method="test.v1.PingService/Unary"
          rpc.status_code="DATA_LOSS"
          rpc.system.name="grpc"
          server.address="127.0.0.1"
          server.port=*
          event exception exception.message="plain words" exception.type="ConnectError"
        test.v1.PingService/Unary SERVER callee ERROR "plain words"
            error.type="DATA_LOSS"
            rpc.method="test.v1.PingService/Unary"
            rpc.status_code="DATA_LOSS"
            rpc.system.name="grpc"
            server.address="127.0.0.1"
            server.port=*
            event exception exception.message="plain words" exception.type="ConnectError"
    `,
  );
});

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";

const serialize = (message: StringValue) => Buffer.from(toBinary(StringValueSchema, message));
const deserialize = (bytes: Buffer) => fromBinary(StringValueSchema, bytes);
const message = create(StringValueSchema, { value: "a" });

function metadata(): grpc.Metadata {
  const headers = new grpc.Metadata();
  headers.set("traceparent", `00-${traceId}-${spanId}-01`);
  return headers;
}

test("grpc-js client sends its trace, and a trusting server continues it in each kind of call", async (t) => {
  const mesh = await pingMesh(
    t,
    {
      unary: ({ value }) => ({ value }),
      async *bidiStream(requests) {
        for await (const { value } of requests) {
          yield { value };
        }
        throw new ConnectError("enough", Code.ResourceExhausted);
      },
    },
    { wire: "grpc" },
  );
  const client = new grpc.Client(new URL(mesh.baseUrl).host, grpc.credentials.createInsecure());
  t.after(() => client.close());

  const answer = await new Promise<string | undefined>((resolve, reject) => {
    const path = "/test.v1.PingService/Unary";
    client.makeUnaryRequest(path, serialize, deserialize, message, metadata(), (error, response) =>
      error === null ? resolve(response?.value) : reject(error),
    );
  });
  assert.equal(answer, "a");

  const call = client.makeBidiStreamRequest("/test.v1.PingService/BidiStream", serialize, deserialize, metadata());
  call.write(message);
  call.end();
  const code = await new Promise<number>((resolve) => {
    call.on("data", () => {});
    call.on("error", ({ code: status }: grpc.ServiceError) => resolve(status));
  });
  assert.equal(code, grpc.status.RESOURCE_EXHAUSTED);

  const spans = await mesh.collector.waitFor((all) => all.length >= 2, AbortSignal.timeout(30_000));
  assert.deepEqual(
    spans.map((span) => [
      span.name,
      span.traceId,
      span.parentSpanId,
      span.attributes["rpc.status_code"],
      span.status.code,
    ]),
    [
      ["test.v1.PingService/Unary", traceId, spanId, "OK", "UNSET"],
      ["test.v1.PingService/BidiStream", traceId, spanId, "RESOURCE_EXHAUSTED", "UNSET"],
    ],
  );
});

test("grpc-js server receives the client's trace as a W3C header", async (t) => {
  const server = new grpc.Server();
  t.after(() => server.forceShutdown());
  let traceparent: unknown;
  server.register(
    "/test.v1.PingService/Unary",
    (call: grpc.ServerUnaryCall<StringValue, StringValue>, respond: grpc.sendUnaryData<StringValue>) => {
      [traceparent] = call.metadata.get("traceparent");
      respond(null, call.request);
    },
    serialize,
    deserialize,
    "unary",
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const mesh = await pingMesh(t, {}, { wire: "grpc", baseUrl: `http://127.0.0.1:${port}` });
  assert.equal((await mesh.client.unary({ value: "a" })).value, "a");
  const [span] = mesh.collector.spans();
  assert.equal(traceparent, `00-${span?.traceId}-${span?.spanId}-01`);
});
