import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import type { MakeCall } from "./call.js";
import { callWithConnect } from "./connect-call.js";
import { readMessages, writeMessage } from "./frames.js";
import { callWithGrpcJs } from "./grpc-js-call.js";
import { type ClientCompatRequest, ClientCompatRequestSchema, ClientCompatResponseSchema } from "./messages.js";
import { type OpenTransport, openBalanced, openConnectNode } from "./transports.js";

/** Makes the calls that the runner asks for, with the client that the first argument names. */
const clients: Record<string, MakeCall> = {
  balanced: over(openBalanced),
  "connect-node": over(openConnectNode),
  "grpc-js": callWithGrpcJs,
};

function over(open: (request: ClientCompatRequest) => OpenTransport): MakeCall {
  return async (request) => {
    const { transport, close } = open(request);
    try {
      return await callWithConnect(transport, request);
    } finally {
      close();
    }
  };
}

/** The runner waits for 20 s, and then ends the run: a call that hangs must not keep the others from being made. */
async function giveUp(): Promise<never> {
  await delay(12_000, undefined, { ref: false });
  throw new Error("the call did not end within 12 s");
}

async function respond(makeCall: MakeCall, request: ClientCompatRequest): Promise<void> {
  const { testName } = request;
  const result = await Promise.race([makeCall(request), giveUp()]).then(
    (value) => ({ case: "response" as const, value }),
    (error: unknown) => ({ case: "error" as const, value: { message: String(error) } }),
  );
  writeMessage(ClientCompatResponseSchema, create(ClientCompatResponseSchema, { testName, result }), process.stdout);
}

const makeCall = clients[process.argv[2] ?? ""];
if (makeCall === undefined) {
  throw new Error(`the first argument must be one of ${Object.keys(clients).join(", ")}`);
}
// Calls with a delay are many; several at once still keep the two processes' clocks honest on a machine with two cores.
const atOnce = 4;
const running = new Set<Promise<void>>();
for await (const request of readMessages(ClientCompatRequestSchema, process.stdin)) {
  const responded: Promise<void> = respond(makeCall, request).finally(() => running.delete(responded));
  running.add(responded);
  if (running.size >= atOnce) {
    await Promise.race(running);
  }
}
await Promise.all(running);
process.exit();
