/**
 * The load, in a process of its own: gRPC over node:http2, without a client library, the same for all systems.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { GenerateRequestSchema, GenerateStreamRequestSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";

export type LoadRequest =
  | {
      /** Calls Generate again and again: `measuring`, `measured` and `calls` come back. */
      readonly kind: "call";
      readonly url: string;
      readonly concurrency: number;
      /** The least; both are longer until each caller had a call, and two that are measured. */
      readonly warmUpMs: number;
      readonly measureMs: number;
    }
  /** Opens calls of GenerateStream: `held` comes back when each has an event or has ended, or after 20 s. */
  | { readonly kind: "hold"; readonly url: string; readonly streams: number; readonly connections: number }
  /** Cancels all open calls; `cancelled` comes back when each has ended, or after 20 s. */
  | { readonly kind: "cancel" };

export type LoadReply =
  | { readonly kind: "measuring" }
  | { readonly kind: "measured" }
  | {
      readonly kind: "calls";
      readonly requestsPerSecond: number;
      /** Calls that ended well while it was measured. */
      readonly measured: number;
      /** All calls that ended well. */
      readonly total: number;
      readonly failed: number;
      readonly p50Ms: number;
      readonly p99Ms: number;
      /** What the last failure said. */
      readonly failure?: string;
      /** A `GenerateResponse` in base64. */
      readonly response: string;
    }
  | {
      readonly kind: "held";
      readonly withEvent: number;
      readonly ended: number;
      /** How many calls ended in which way. */
      readonly ends: Readonly<Record<string, number>>;
      /** Until the last first event came. */
      readonly lastEventMs: number;
    }
  | { readonly kind: "cancelled"; readonly open: number; readonly afterMs: number };

const prompt = "a watercolor generation of a lighthouse at dusk, ".repeat(5).slice(0, 192);
const request = create(GenerateRequestSchema, {
  prompt,
  options: { seed: 7, numInferenceSteps: 1, width: 64, height: 64 },
});
const unaryBody = envelope(GenerateRequestSchema, request);
const streamBody = envelope(GenerateStreamRequestSchema, create(GenerateStreamRequestSchema, { request }));

process.once("disconnect", () => process.exit(1));
const send = (reply: LoadReply) => process.send?.(reply);
const connections = new Map<string, ClientHttp2Session>();
let held: ClientHttp2Stream[] = [];

process.on("message", (message: LoadRequest) => {
  switch (message.kind) {
    case "call":
      void call(message);
      break;
    case "hold":
      void hold(message);
      break;
    case "cancel":
      void cancel();
      break;
  }
});

function envelope<Desc extends DescMessage>(desc: Desc, message: MessageShape<Desc>): Buffer {
  const bytes = toBinary(desc, message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

function open(session: ClientHttp2Session, method: string, body: Buffer): ClientHttp2Stream {
  const stream = session.request({
    ":method": "POST",
    ":path": `/throughline.v1.ImagePipelineService/${method}`,
    "content-type": "application/grpc",
    "grpc-accept-encoding": "identity,gzip",
    "grpc-timeout": "100S",
    te: "trailers",
  });
  stream.end(body);
  return stream;
}

/** @throws Error where the call fails. */
function callOnce(session: ClientHttp2Session): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let status = "no grpc-status";
    let text = "";
    const stream = open(session, "Generate", unaryBody);
    const read = (headers: Readonly<Record<string, unknown>>) => {
      if (headers["grpc-status"] !== undefined) {
        status = `grpc-status ${headers["grpc-status"]}`;
        text = String(headers["grpc-message"] ?? "");
      }
    };
    stream.on("response", read);
    stream.on("trailers", read);
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("close", () =>
      status === "grpc-status 0" ? resolve(Buffer.concat(chunks).subarray(5)) : reject(new Error(`${status} ${text}`)),
    );
  });
}

async function call({ url, concurrency, warmUpMs, measureMs }: Extract<LoadRequest, { kind: "call" }>): Promise<void> {
  const session = connections.get(url) ?? connect(url);
  connections.set(url, session);
  const latencies: number[] = [];
  let phase: "warm-up" | "measure" | "over" = "warm-up";
  let total = 0;
  let failed = 0;
  let failure: string | undefined;
  let response: Buffer = Buffer.alloc(0);
  const caller = async () => {
    while (phase !== "over") {
      const begunAt = performance.now();
      try {
        response = await callOnce(session);
        total++;
        if (phase === "measure") {
          latencies.push(performance.now() - begunAt);
        }
      } catch (error) {
        failed++;
        failure = String(error);
        await delay(5);
      }
    }
  };
  const callers = Array.from({ length: concurrency }, caller);
  // A busy machine may need longer than that for one call of each caller.
  await atLeast(warmUpMs, () => total >= concurrency);
  send({ kind: "measuring" });
  phase = "measure";
  const begunAt = performance.now();
  await atLeast(measureMs, () => latencies.length >= 2 * concurrency);
  phase = "over";
  const seconds = (performance.now() - begunAt) / 1000;
  send({ kind: "measured" });
  await Promise.all(callers);
  latencies.sort((a, b) => a - b);
  const quantile = (share: number) => latencies[Math.ceil(latencies.length * share) - 1] ?? Number.NaN;
  send({
    kind: "calls",
    requestsPerSecond: latencies.length / seconds,
    measured: latencies.length,
    total,
    failed,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    ...(failure !== undefined && { failure }),
    response: response.toString("base64"),
  });
}

/** Waits so many milliseconds, and then until there is enough, 30 s at most. */
async function atLeast(ms: number, isEnough: () => boolean): Promise<void> {
  await delay(ms);
  for (let waitedMs = 0; waitedMs < 30_000 && !isEnough(); waitedMs += 20) {
    await delay(20);
  }
}

async function hold({ url, streams, connections: count }: Extract<LoadRequest, { kind: "hold" }>): Promise<void> {
  const sessions = Array.from({ length: count }, () => connect(url).setMaxListeners(0));
  const begunAt = performance.now();
  let withEvent = 0;
  let ended = 0;
  let lastEventMs = 0;
  const ends: Record<string, number> = {};
  held = [];
  for (let i = 0; i < streams; i++) {
    const session = sessions[i % count];
    if (session === undefined) {
      break;
    }
    const stream = open(session, "GenerateStream", streamBody);
    stream.once("data", () => {
      withEvent++;
      lastEventMs = performance.now() - begunAt;
    });
    stream.on("data", () => {});
    let end = "no grpc-status";
    const read = (headers: Readonly<Record<string, unknown>>) => {
      if (headers["grpc-status"] !== undefined) {
        end = `grpc-status ${headers["grpc-status"]} ${decodeURIComponent(String(headers["grpc-message"] ?? ""))}`;
      }
    };
    stream.on("response", read);
    stream.on("trailers", read);
    stream.on("error", (error) => {
      end = error.message;
    });
    stream.on("close", () => {
      ended++;
      ends[end] = (ends[end] ?? 0) + 1;
    });
    held.push(stream);
  }
  for (let waited = 0; waited < 20_000 && withEvent + ended < streams; waited += 50) {
    await delay(50);
  }
  send({ kind: "held", withEvent, ended, ends, lastEventMs });
}

async function cancel(): Promise<void> {
  const begunAt = performance.now();
  for (const stream of held) {
    stream.close(constants.NGHTTP2_CANCEL);
  }
  const open = () => held.filter(({ closed }) => !closed).length;
  while (open() > 0 && performance.now() - begunAt < 20_000) {
    await delay(5);
  }
  send({ kind: "cancelled", open: open(), afterMs: performance.now() - begunAt });
}
