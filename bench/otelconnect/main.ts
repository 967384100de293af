/**
 * What `throughline/otelconnect` costs per call: the same calls with nothing, with the interceptors switched off, unsampled, and with spans
 * and metrics. Client and server share this process and a real HTTP/2 port; the variants take turns in every round, so that a slow spell of
 * the machine hits all of them, and a variant's cost is the median of its ratios to "none" in the same round.
 *
 *     npm run bench -- otelconnect [rounds] [milliseconds of a turn]
 */
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http2";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import {
  type Client,
  type ConnectRouter,
  createClient,
  createRouterTransport,
  type Interceptor,
} from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { createNoopMeter, ProxyTracerProvider, type Tracer } from "@opentelemetry/api";
import { core, metrics, tracing } from "@opentelemetry/sdk-node";
import {
  createClientInterceptor,
  createServerInterceptor,
  type OtelConnectOptions,
} from "../../src/otelconnect/otelconnect.js";
import { installContextManager } from "../../src/trace/telemetry/sdk.js";
import { createPropagator } from "../../src/trace/telemetry/spans.js";
import { PingService } from "../../test/otelconnect/ping-service.js";

const [rounds = 40, turnMs = 150] = process.argv.slice(2).map(Number);

/** Rounds before those that count. */
const warmUpRounds = 6;

/** Messages of one stream. */
const streamLength = 50;

const kept: tracing.SpanExporter = {
  export: (_spans, settle) => settle({ code: core.ExportResultCode.SUCCESS }),
  shutdown: () => Promise.resolve(),
};

function tracerWith(sampler: tracing.Sampler): Tracer {
  const spanProcessors = [new tracing.BatchSpanProcessor(kept)];
  return new tracing.BasicTracerProvider({ sampler, spanProcessors }).getTracer("bench");
}

const noTracer = new ProxyTracerProvider().getTracer("none");
const noMeter = createNoopMeter();
const propagator = createPropagator();
const sampled = tracerWith(new tracing.AlwaysOnSampler());
const meterProvider = new metrics.MeterProvider({
  readers: [
    new metrics.PeriodicExportingMetricReader({
      exporter: new metrics.InMemoryMetricExporter(metrics.AggregationTemporality.CUMULATIVE),
      exportIntervalMillis: 2 ** 30,
    }),
  ],
});

/** By name; undefined has no interceptors at all. */
const variants: Readonly<Record<string, OtelConnectOptions | undefined>> = {
  none: undefined,
  "filtered out": { tracer: sampled, meterProvider, filter: () => false },
  "no SDK": { tracer: noTracer, meter: noMeter },
  unsampled: { tracer: tracerWith(new tracing.AlwaysOffSampler()), meter: noMeter, propagator },
  metrics: { tracer: noTracer, meterProvider },
  spans: { tracer: sampled, meter: noMeter, propagator },
  "spans and metrics": { tracer: sampled, meterProvider, propagator },
  "spans, metrics and message events": { tracer: sampled, meterProvider, propagator, messageEvents: true },
};

type PingClient = Client<typeof PingService>;

const calls: Readonly<Record<string, (client: PingClient) => Promise<void>>> = {
  unary: async (client) => void (await client.unary({ value: "ping" })),
  [`stream of ${streamLength}`]: async (client) => {
    for await (const _message of client.serverStream({ value: "ping" })) {
    }
  },
};

function routes(router: ConnectRouter): void {
  router.service(PingService, {
    unary: ({ value }) => ({ value }),
    async *serverStream({ value }) {
      for (let i = 0; i < streamLength; i++) {
        yield { value };
      }
    },
  });
}

const interceptorsOf = (options: OtelConnectOptions | undefined): { client: Interceptor[]; server: Interceptor[] } =>
  options === undefined
    ? { client: [], server: [] }
    : {
        client: [createClientInterceptor(options)],
        server: [createServerInterceptor({ ...options, remoteParent: "trust", nestInActiveSpan: false })],
      };

async function overGrpc(options: OtelConnectOptions | undefined): Promise<PingClient> {
  const { client, server } = interceptorsOf(options);
  const http2 = createServer(connectNodeAdapter({ routes, interceptors: server })).listen(0, "127.0.0.1");
  await once(http2, "listening");
  const address = http2.address();
  if (address === null || typeof address === "string") {
    throw new Error("the server has no port");
  }
  return createClient(
    PingService,
    createGrpcTransport({ baseUrl: `http://127.0.0.1:${address.port}`, interceptors: client }),
  );
}

async function inMemory(options: OtelConnectOptions | undefined): Promise<PingClient> {
  const { client, server } = interceptorsOf(options);
  return createClient(
    PingService,
    createRouterTransport(routes, { router: { interceptors: server }, transport: { interceptors: client } }),
  );
}

/** Calls for this long, one after another. @returns microseconds of CPU per call, of client and server together. */
async function measure(call: () => Promise<void>): Promise<number> {
  const begin = process.cpuUsage();
  const end = performance.now() + turnMs;
  let count = 0;
  while (performance.now() < end) {
    await call();
    count += 1;
  }
  const { user, system } = process.cpuUsage(begin);
  return (user + system) / count;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));

installContextManager();
const rows = [];
for (const [wire, connect] of Object.entries({ "in memory": inMemory, gRPC: overGrpc })) {
  const clients = new Map<string, PingClient>();
  for (const [name, options] of Object.entries(variants)) {
    clients.set(name, await connect(options));
  }
  for (const [call, run] of Object.entries(calls)) {
    const costs = new Map<string, number[]>([...clients.keys()].map((name) => [name, []]));
    for (let i = -warmUpRounds; i < rounds; i++) {
      for (const [name, client] of clients) {
        const cost = await measure(() => run(client));
        if (i >= 0) {
          costs.get(name)?.push(cost);
        }
      }
    }
    const base = costs.get("none") ?? [];
    for (const [name, values] of costs) {
      const ratios = values.map((value, i) => value / (base[i] ?? Number.NaN)).sort((a, b) => a - b);
      rows.push({
        wire,
        call,
        variant: name,
        cpuMicrosecondsPerCall: round(median(values), 1),
        ratio: round(median(ratios), 3),
        lowest: round(ratios[0] ?? Number.NaN, 3),
        highest: round(ratios.at(-1) ?? Number.NaN, 3),
      });
    }
  }
}

const result = {
  what: "CPU time per call, client and server together, as a ratio to the same round's calls without interceptors",
  node: process.version,
  cores: cpus().length,
  rounds,
  turnMs,
  rows,
};
const folder = new URL("./results/", import.meta.url);
await mkdir(folder, { recursive: true });
await writeFile(fileURLToPath(new URL("otelconnect.json", folder)), `${JSON.stringify(result, null, 2)}\n`);
process.stdout.write(
  [
    "| Wire | Call | Variant | µs of CPU per call | Ratio (lowest to highest round) |",
    "|---|---|---|---|---|",
    ...rows.map(
      (row) =>
        `| ${row.wire} | ${row.call} | ${row.variant} | ${row.cpuMicrosecondsPerCall} | ${row.ratio} (${row.lowest} to ${row.highest}) |`,
    ),
    "",
  ].join("\n"),
);
process.exit(0);
