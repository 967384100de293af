import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { type CallOptions, type Client, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { type ConnectAppOptions, connectApp } from "../../../src/mesh/balance/connect-app.js";
import { type PoliciesInput, readPolicies } from "../../../src/mesh/grpc/policies.js";
import type { Behaviour } from "./echo-services.js";
import { serveEcho } from "./serve-echo.js";

/** Options of {@link transportTo}: one attempt a call by default. */
export type TransportOptions = Omit<Partial<ConnectAppOptions>, "target" | "policies"> & {
  readonly policies?: PoliciesInput;
};

/** A transport to a target, closed when the test ends. */
export function transportTo(t: TestContext, target: string, options: TransportOptions = {}): Transport {
  const policies = readPolicies({ retry: { maxAttempts: 1 }, ...options.policies });
  const { transport, close } = connectApp({ appId: "test/worker", ...options, target, policies });
  t.after(close);
  return transport;
}

/** A typed client of the worker. */
export type WorkerClient = Client<typeof TextToImageWorkerService>;

/** A client of a fresh server whose calls behave so. */
export async function clientOf(
  t: TestContext,
  behaviour?: Behaviour,
  options: TransportOptions = {},
): Promise<WorkerClient> {
  const { port } = await serveEcho(t, behaviour === undefined ? {} : { behaviour });
  return createClient(TextToImageWorkerService, transportTo(t, `127.0.0.1:${port}`, options));
}

/** Waits for the call's signal. `began` and `ended` resolve at the start and at the end. */
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
