import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
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

/** Says every message back, then does what `then` does. */
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

/** What a call's two spans are, whole. */
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
      const slip = () => {
        throw new TypeError("canary");
      };
      const mesh = await pingMesh(t, echo(slip), { wire: there.wire });
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
