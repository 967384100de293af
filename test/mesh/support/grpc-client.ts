import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { type CallOptions, type Client, ConnectError, createClient } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { type ChannelOptions, createChannel } from "../../../src/mesh/grpc/grpc-channel.js";
import { createGrpcTransport, type GrpcTransportOptions } from "../../../src/mesh/grpc/grpc-transport.js";
import type { Behaviour } from "./echo-services.js";
import { serveEcho } from "./serve-echo.js";

/** A transport to a target, closed when the test ends. */
export function transportTo(
  t: TestContext,
  target: string,
  options: Omit<GrpcTransportOptions, "channel"> = {},
  channelOptions: Partial<ChannelOptions> = {},
) {
  const channel = createChannel({ target, ...channelOptions });
  t.after(() => channel.close());
  return createGrpcTransport({ channel, ...options });
}

/** A typed client of the worker. */
export type WorkerClient = Client<typeof TextToImageWorkerService>;

/** A client of a fresh server whose calls behave so. */
export async function clientOf(
  t: TestContext,
  behaviour?: Behaviour,
  options: Omit<GrpcTransportOptions, "channel"> = {},
): Promise<WorkerClient> {
  const { port } = await serveEcho(t, behaviour === undefined ? {} : { behaviour });
  return createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`, options));
}

/** Waits for the call's signal; `began` and `ended` tell of it. */
export function waiting() {
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

/** The error that a call fails with. */
export async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(
    () => assert.fail("the call succeeded"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ConnectError, String(error));
  return error;
}

/** Both kinds of call, as a promise of the seed that came back. */
export const kinds = {
  unary: async (client: WorkerClient, options?: CallOptions) =>
    (await client.infer({ prompt: "x", options: { seed: 7 } }, options)).seed,
  stream: async (client: WorkerClient, options?: CallOptions) => {
    let seed: number | undefined;
    for await (const { event } of client.inferStream({ request: { prompt: "x", options: { seed: 7 } } }, options)) {
      if (event.case === "result") {
        seed = event.value.seed;
      }
    }
    return seed;
  },
};
