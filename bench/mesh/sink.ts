/**
 * An OTLP receiver in a process of its own, with a port for each system: `node sink.mjs REPOSITORY SYSTEM…`. While calls are measured it only
 * keeps bytes; it decodes them when it is asked.
 */
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import * as z from "zod";

/** Asks whether this many traces arrived since the last request. */
export interface SinkRequest {
  readonly system: string;
  readonly traces: number;
  readonly timeoutMs: number;
}

export type SinkReply =
  | { readonly kind: "listening"; readonly endpoints: Readonly<Record<string, string>> }
  | {
      readonly kind: "traces";
      /** Traces with exactly the contract's spans, each below the right parent. */
      readonly whole: number;
      readonly spans: number;
      /** What is wrong with the others, the first few of them. */
      readonly wrong: readonly string[];
    };

/** Each span of a request's trace, with its parent. */
const parents: Readonly<Record<string, string>> = {
  "image-pipeline": "",
  "preprocess-prompt": "image-pipeline",
  "call-inference-worker": "image-pipeline",
  inference: "image-pipeline",
  diffusion: "inference",
  upload: "inference",
};

const hex = z.instanceof(Buffer).transform((bytes) => bytes.toString("hex"));
const spanSchema = z.object({ traceId: hex, spanId: hex, parentSpanId: hex, name: z.string() });
type ReceivedSpan = z.infer<typeof spanSchema>;
const requestSchema = z.object({
  resourceSpans: z.array(z.object({ scopeSpans: z.array(z.object({ spans: z.array(spanSchema) })) })),
});

const [repository = "", ...systems] = process.argv.slice(2);
const definitions = loadSync("opentelemetry/proto/collector/trace/v1/trace_service.proto", {
  includeDirs: [join(repository, "third_party/proto")],
  defaults: true,
});
const service = definitions["opentelemetry.proto.collector.trace.v1.TraceService"];
const decode = service !== undefined && !("format" in service) ? service["Export"]?.requestDeserialize : undefined;
if (decode === undefined) {
  throw new Error("TraceService is not in third_party/proto");
}

/** Exports that nobody asked about yet, by system. */
const received = new Map<string, Buffer[]>(systems.map((system) => [system, []]));

const same = (bytes: Buffer) => bytes;
const definitionOf = (path: string) => ({
  path,
  requestStream: false as const,
  responseStream: false as const,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});

function listen(keep: (request: Buffer) => void): Promise<string> {
  const server = new grpc.Server({ "grpc.max_receive_message_length": 64 * 2 ** 20 });
  const empty = Buffer.alloc(0);
  const exportSpans: grpc.handleUnaryCall<Buffer, Buffer> = ({ request }, callback) => {
    keep(request);
    callback(null, empty);
  };
  const exportMetrics: grpc.handleUnaryCall<Buffer, Buffer> = (_call, callback) => callback(null, empty);
  const collector = "/opentelemetry.proto.collector";
  server.addService({ export: definitionOf(`${collector}.trace.v1.TraceService/Export`) }, { export: exportSpans });
  server.addService(
    { export: definitionOf(`${collector}.metrics.v1.MetricsService/Export`) },
    { export: exportMetrics },
  );
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(`http://127.0.0.1:${port}`) : reject(error),
    );
  });
}

process.once("disconnect", () => process.exit(1));
const send = (reply: SinkReply) => process.send?.(reply);

process.on("message", async ({ system, traces, timeoutMs }: SinkRequest) => {
  const spans: ReceivedSpan[] = [];
  const wanted = traces * Object.keys(parents).length;
  for (const end = performance.now() + timeoutMs; ; ) {
    for (const bytes of received.get(system)?.splice(0) ?? []) {
      const { resourceSpans } = requestSchema.parse(decode(bytes));
      spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)));
    }
    // The worker's start has a trace of its own.
    const requests = spans.filter(({ name }) => name !== "warmup");
    if (requests.length >= wanted || performance.now() > end) {
      send({ kind: "traces", spans: requests.length, ...examine(requests) });
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

function examine(spans: readonly ReceivedSpan[]): { whole: number; wrong: string[] } {
  const byTrace = new Map<string, ReceivedSpan[]>();
  for (const span of spans) {
    const others = byTrace.get(span.traceId);
    if (others === undefined) {
      byTrace.set(span.traceId, [span]);
    } else {
      others.push(span);
    }
  }
  const wrong: string[] = [];
  let whole = 0;
  for (const [traceId, all] of byTrace) {
    const nameOf = new Map(all.map(({ spanId, name }) => [spanId, name]));
    const isWhole =
      all.length === Object.keys(parents).length &&
      new Set(all.map(({ name }) => name)).size === all.length &&
      all.every(({ name, parentSpanId }) => parents[name] === (parentSpanId === "" ? "" : nameOf.get(parentSpanId)));
    if (isWhole) {
      whole++;
    } else if (wrong.length < 3) {
      const seen = all.map(({ name, parentSpanId }) => `${name} below ${nameOf.get(parentSpanId) ?? parentSpanId}`);
      wrong.push(`trace ${traceId}: ${seen.join(", ")}`);
    }
  }
  return { whole, wrong };
}

const endpoints: Record<string, string> = {};
for (const system of systems) {
  endpoints[system] = await listen((request) => void received.get(system)?.push(request));
}
send({ kind: "listening", endpoints });
