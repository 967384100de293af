import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { InferRequestSchema, TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { openStockTransport } from "../../support/stock-transport.js";
import type { Behaviour } from "../support/echo-services.js";
import { transportTo } from "../support/grpc-client.js";
import { serveEcho } from "../support/serve-echo.js";

/** Calls of one burst, and their deadlines, which spread over the time that a burst takes to be sent. */
const callsPerBurst = 120;
const bursts = 2;
const timeoutMs = (call: number) => 20 + (call % 60);

/** Starts a call and resolves with the name of its code. */
type Start = (timeoutMs: number | undefined) => Promise<string>;

const infer = "/throughline.v1.TextToImageWorkerService/Infer";

/** A client with only grpc-js, which sends and receives bytes. */
function bareClient(t: TestContext, port: number): Start {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  t.after(() => client.close());
  const pass = (bytes: Buffer) => bytes;
  const request = Buffer.from(toBinary(InferRequestSchema, create(InferRequestSchema, { prompt: "x" })));
  return (ms) =>
    new Promise((resolve) => {
      const options = ms === undefined ? {} : { deadline: Date.now() + ms };
      client.makeUnaryRequest(infer, pass, pass, request, options, (error) =>
        resolve(grpc.status[error?.code ?? grpc.status.OK] ?? ""),
      );
    });
}

function codeOf(end: Promise<unknown>): Promise<string> {
  return end.then(
    () => "OK",
    (error: unknown) => (ConnectError.from(error).code === Code.DeadlineExceeded ? "DEADLINE_EXCEEDED" : String(error)),
  );
}

const unary =
  (client: Client<typeof TextToImageWorkerService>): Start =>
  (ms) =>
    codeOf(client.infer({ prompt: "x" }, optionsOf(ms)));

const stream =
  (client: Client<typeof TextToImageWorkerService>): Start =>
  (ms) =>
    codeOf(readToEnd(client.inferStream({ request: { prompt: "x" } }, optionsOf(ms))));

async function readToEnd(messages: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of messages) {
    // Only the stream's end counts.
  }
}

const optionsOf = (ms: number | undefined): CallOptions => (ms === undefined ? {} : { timeoutMs: ms });

function stockClient(t: TestContext, port: number) {
  const { transport, close } = openStockTransport(port);
  t.after(close);
  return createClient(TextToImageWorkerService, transport);
}

const ownClient = (t: TestContext, port: number) =>
  createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`));

const clients: Readonly<Record<string, (t: TestContext, port: number) => Start>> = {
  "grpc-js": bareClient,
  "connect-node, unary": (t, port) => unary(stockClient(t, port)),
  "connect-node, stream": (t, port) => stream(stockClient(t, port)),
  "our client, unary": (t, port) => unary(ownClient(t, port)),
  "our client, stream": (t, port) => stream(ownClient(t, port)),
};

suite("bursts of calls with short deadlines", () => {
  for (const [name, open] of Object.entries(clients)) {
    test(`each of ${bursts * callsPerBurst} calls is DEADLINE_EXCEEDED, never CANCELLED (${name})`, async (t) => {
      let waits = false;
      const behaviour: Behaviour = (_, { signal }) =>
        waits
          ? new Promise((_resolve, reject) => {
              signal.throwIfAborted();
              signal.addEventListener("abort", () => reject(signal.reason));
            })
          : undefined;
      const { port } = await serveEcho(t, { behaviour });
      const start = open(t, port);
      // The connection is made with the first call; a short deadline would go into that.
      assert.equal(await start(undefined), "OK");
      waits = true;
      const codes = new Map<string, number>();
      for (let burst = 0; burst < bursts; burst++) {
        for (const code of await Promise.all(
          Array.from({ length: callsPerBurst }, (_, call) => start(timeoutMs(call))),
        )) {
          codes.set(code, (codes.get(code) ?? 0) + 1);
        }
      }
      assert.deepEqual([...codes], [["DEADLINE_EXCEEDED", bursts * callsPerBurst]]);
    });
  }
});
