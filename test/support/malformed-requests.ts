import { create, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { InferRequestSchema } from "../../src/gen/throughline/v1/worker_pb.js";
import { maxImageRequestBytes } from "../../src/request-limits.js";

/** One hostile request, and what its class deserves. */
export interface MalformedRequest {
  /** Class, for the report. */
  readonly kind: string;
  readonly service: "pipeline" | "worker";
  readonly protocol: "http1" | "grpc";
  readonly path: string;
  readonly httpMethod: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** Connect: the HTTP status and, where there is one, the code in the body. gRPC: the code as its number. */
  readonly expected: readonly string[];
}

/** Never to be found in any answer, log or span. */
export const canary = "canary-6f1d9c";

const generatePath = "/throughline.v1.ImagePipelineService/Generate";
const inferPath = "/throughline.v1.TextToImageWorkerService/Infer";
const text = new TextEncoder();

/** A small seeded generator (mulberry32), so that a failure can be run again. */
export function createRandom(seed: number) {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n: number): number => Math.floor(next() * n);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[below(items.length)];
    if (item === undefined) {
      throw new Error("nothing to pick from");
    }
    return item;
  };
  const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => below(256));
  return { below, pick, bytes };
}

type Random = ReturnType<typeof createRandom>;

const json = (kind: string, value: JsonValue | string, expected: readonly string[], raw = false): MalformedRequest => ({
  kind,
  service: "pipeline",
  protocol: "http1",
  path: generatePath,
  httpMethod: "POST",
  headers: { "content-type": "application/json" },
  body: text.encode(raw ? String(value) : JSON.stringify(value)),
  expected,
});

const grpc = (kind: string, body: Uint8Array, expected: readonly string[], headers = {}): MalformedRequest => ({
  kind,
  service: "worker",
  protocol: "grpc",
  path: inferPath,
  httpMethod: "POST",
  headers: { "content-type": "application/grpc", te: "trailers", ...headers },
  body,
  expected,
});

function envelope(message: Uint8Array, flags = 0, length = message.length): Uint8Array {
  const framed = new Uint8Array(5 + message.length);
  framed[0] = flags;
  new DataView(framed.buffer).setUint32(1, length);
  framed.set(message, 5);
  return framed;
}

const infer = (traceContext: Record<string, string>) =>
  toBinary(
    InferRequestSchema,
    create(InferRequestSchema, { prompt: "a red heart", traceContext, options: { seed: 1 } }),
  );

const rejected = ["400 invalid_argument"];

const makers: Record<string, (random: Random) => MalformedRequest> = {
  "wrong JSON type": (random) => {
    const wrong = random.pick<JsonValue>([canary, { [canary]: canary }, [canary], true, -1, 1.5, 4294967296]);
    const field = random.pick(["width", "height", "num_inference_steps", "seed", "preview_interval"]);
    return json("wrong JSON type", { prompt: canary, options: { [field]: wrong } }, rejected);
  },
  "prompt of a wrong type": (random) =>
    json("prompt of a wrong type", { prompt: random.pick<JsonValue>([5, { [canary]: 1 }, [canary], false]) }, rejected),
  "unknown enum name": (random) =>
    json(
      "unknown enum name",
      { prompt: canary, options: { [random.pick(["scheduler", "format", "delivery"])]: canary } },
      rejected,
    ),
  "broken JSON": (random) => {
    const whole = JSON.stringify({ prompt: canary, options: { width: 64 } });
    return json("broken JSON", whole.slice(0, 1 + random.below(whole.length - 2)), rejected, true);
  },
  "bytes for JSON": (random) => ({
    ...json("bytes for JSON", {}, rejected),
    body: Uint8Array.of(0xff, ...random.bytes(1 + random.below(200))),
  }),
  "broken rule": (random) =>
    json(
      "broken rule",
      random.pick<JsonObject>([
        { prompt: "" },
        { prompt: canary.repeat(200) },
        { prompt: canary, worker_app: "127.0.0.1:1" },
        { prompt: canary, options: { width: 65 } },
        { prompt: canary, options: { height: 4096 } },
        { prompt: canary, options: { num_inference_steps: 0 } },
        { prompt: canary, options: { guidance_scale: "NaN" } },
        { prompt: canary, options: { guidance_scale: 31 } },
        { prompt: canary, options: { scheduler: 77 } },
        { prompt: " \t\n" },
      ]),
      rejected,
    ),
  "key given twice": () => json("key given twice", `{"prompt":"${canary}","prompt":"b"}`, rejected, true),
  "unknown app": () => json("unknown app", { prompt: canary, worker_app: `nobody/${canary}` }, ["404 not_found"]),
  "huge body": (random) =>
    json("huge body", { prompt: "x".repeat(maxImageRequestBytes + random.below(100_000)) }, ["429 resource_exhausted"]),
  "wrong content type": (random) => ({
    ...json("wrong content type", { prompt: canary }, ["415"]),
    headers: {
      "content-type": random.pick(["text/plain", "application/xml", "application/json; charset=latin1x", "nonsense"]),
    },
  }),
  "wrong method": (random) => ({
    ...json("wrong method", {}, ["405"]),
    httpMethod: random.pick(["PUT", "DELETE", "PATCH"]),
  }),
  "unknown path": (random) => ({
    ...json("unknown path", {}, ["404", "404 unimplemented"]),
    path: random.pick([
      "/",
      "/nothing",
      "/throughline.v1.ImagePipelineService/Nothing",
      "/images/../etc/passwd",
      `/${canary}`,
    ]),
  }),
  "frame cut short": (random) => {
    const framed = envelope(infer({}));
    return grpc("frame cut short", framed.slice(0, 5 + random.below(framed.length - 6)), ["3"]);
  },
  "length that lies": (random) => grpc("length that lies", envelope(infer({}), 0, 1000 + random.below(100_000)), ["3"]),
  "frame too large": () => grpc("frame too large", envelope(infer({}), 0, 0xffffffff), ["8"]),
  "bytes for a message": (random) =>
    grpc("bytes for a message", envelope(Uint8Array.of(0x0a, 0xff, ...random.bytes(random.below(60)))), ["3"]),
  "compressed without a name": () => grpc("compressed without a name", envelope(infer({}), 1), ["13"]),
  "unknown compression": () =>
    grpc("unknown compression", envelope(infer({}), 1), ["12"], { "grpc-encoding": "zip-zap" }),
  "no message": () => grpc("no message", new Uint8Array(), ["12"]),
  "carrier too large": (random) =>
    grpc(
      "carrier too large",
      envelope(
        infer(
          random.pick([
            { traceparent: "x".repeat(8_193) },
            { ["k".repeat(257)]: "v" },
            Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, "v"])),
          ]),
        ),
      ),
      ["3"],
    ),
  // The last one is not malformed at all: a carrier within the limits never fails a request.
  "random carrier": (random) => {
    const garbage = () => String.fromCodePoint(...Array.from({ length: random.below(60) }, () => random.below(0xd7ff)));
    const key = random.pick(["traceparent", "TraceParent", "tracestate", "baggage", garbage()]);
    const value = random.pick([
      garbage(),
      "",
      "00-00000000000000000000000000000000-0000000000000000-00",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ]);
    return grpc("random carrier", envelope(infer({ [key]: value })), ["0"]);
  },
};

/** Request number `index` of a seed: every class in turn, but the large bodies only now and then. */
export function malformedRequest(random: Random, index: number): MalformedRequest {
  const kinds = Object.keys(makers).filter((kind) => kind !== "huge body" || index % 200 === 0);
  const maker = makers[kinds[index % kinds.length] ?? ""];
  if (maker === undefined) {
    throw new Error("no such class");
  }
  return maker(random);
}
