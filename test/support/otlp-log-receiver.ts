import { once } from "node:events";
import { createServer } from "node:http";
import grpc from "@grpc/grpc-js";
import { fromJSON } from "@grpc/proto-loader";
import * as z from "zod";

/** A log record as a foreign decoder sees it. */
export interface ForeignLogRecord {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly flags: number;
  readonly timeUnixNano: bigint;
  readonly severityNumber: number;
  readonly severityText: string;
  readonly body: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** A receiver of logs that shares no code with ours: @grpc/grpc-js or node:http, decoded by protobufjs. */
export interface OtlpLogReceiver {
  /** What belongs into `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly endpoint: string;
  /** Headers of the exports, names in lower case. */
  readonly headers: readonly Readonly<Record<string, unknown>>[];
  /** All records so far. */
  records(): readonly ForeignLogRecord[];
  /** Resolves when `enough` is true; rejects after 30 s. */
  waitFor(enough: (records: readonly ForeignLogRecord[]) => boolean): Promise<readonly ForeignLogRecord[]>;
  stop(): Promise<void>;
}

/** The messages of opentelemetry/proto/logs/v1, by the numbers of their fields. Other signals are answered as what nobody knows. */
const field = (type: string, id: number, rule?: "repeated") => ({ type, id, ...(rule && { rule }) });
const service = fromJSON(
  {
    nested: {
      LogsService: { methods: { Export: { requestType: "Request", responseType: "Response", comment: "" } } },
      Request: { fields: { resourceLogs: field("ResourceLogs", 1, "repeated") } },
      Response: { fields: {} },
      ResourceLogs: { fields: { resource: field("Resource", 1), scopeLogs: field("ScopeLogs", 2, "repeated") } },
      Resource: { fields: { attributes: field("KeyValue", 1, "repeated") } },
      ScopeLogs: { fields: { logRecords: field("LogRecord", 2, "repeated") } },
      LogRecord: {
        fields: {
          timeUnixNano: field("fixed64", 1),
          severityNumber: field("int32", 2),
          severityText: field("string", 3),
          body: field("AnyValue", 5),
          attributes: field("KeyValue", 6, "repeated"),
          flags: field("fixed32", 8),
          traceId: field("bytes", 9),
          spanId: field("bytes", 10),
        },
      },
      KeyValue: { fields: { key: field("string", 1), value: field("AnyValue", 2) } },
      AnyValue: {
        oneofs: { value: { oneof: ["stringValue", "boolValue", "intValue", "doubleValue"] } },
        fields: {
          stringValue: field("string", 1),
          boolValue: field("bool", 2),
          intValue: field("int64", 3),
          doubleValue: field("double", 4),
        },
      },
    },
  },
  { longs: String, defaults: true, oneofs: true },
)["LogsService"];

const valueSchema = z
  .object({
    value: z.string(),
    stringValue: z.string().optional(),
    boolValue: z.boolean().optional(),
    intValue: z.string().optional(),
    doubleValue: z.number().optional(),
  })
  .transform(({ stringValue, boolValue, intValue, doubleValue }) =>
    intValue === undefined ? (stringValue ?? boolValue ?? doubleValue) : Number(intValue),
  );
const attributesSchema = z
  .array(z.object({ key: z.string(), value: valueSchema }))
  .transform((pairs) => Object.fromEntries(pairs.map(({ key, value }) => [key, value])));
const hex = z.instanceof(Buffer).transform((bytes) => bytes.toString("hex"));
const requestSchema = z.object({
  resourceLogs: z.array(
    z.object({
      resource: z.object({ attributes: attributesSchema }),
      scopeLogs: z.array(
        z.object({
          logRecords: z.array(
            z.object({
              timeUnixNano: z.string().transform(BigInt),
              severityNumber: z.number(),
              severityText: z.string(),
              body: valueSchema.transform(String),
              attributes: attributesSchema,
              flags: z.number(),
              traceId: hex,
              spanId: hex,
            }),
          ),
        }),
      ),
    }),
  ),
});

function recordsOf(request: unknown): ForeignLogRecord[] {
  return requestSchema
    .parse(request)
    .resourceLogs.flatMap(({ resource, scopeLogs }) =>
      scopeLogs.flatMap(({ logRecords }) =>
        logRecords.map((record) => ({ service: String(resource.attributes["service.name"]), ...record })),
      ),
    );
}

const exportMethod = (() => {
  const method = service !== undefined && !("format" in service) ? service["Export"] : undefined;
  if (method === undefined) {
    throw new Error("LogsService has no Export");
  }
  return { ...method, path: "/opentelemetry.proto.collector.logs.v1.LogsService/Export" };
})();

/** Starts a receiver on the loopback interface. */
export async function startOtlpLogReceiver(protocol: "grpc" | "http/protobuf"): Promise<OtlpLogReceiver> {
  const records: ForeignLogRecord[] = [];
  const headers: Record<string, unknown>[] = [];
  const listeners = new Set<() => void>();
  const receive = (request: unknown, header: Record<string, unknown>) => {
    records.push(...recordsOf(request));
    headers.push(header);
    for (const listener of [...listeners]) {
      listener();
    }
  };
  const server = await (protocol === "grpc" ? listenGrpc(receive) : listenHttp(receive));
  return {
    ...server,
    headers,
    records: () => records,
    waitFor(enough) {
      return new Promise((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`the receiver has ${JSON.stringify(records.map(({ body }) => body))}`)),
          30_000,
        );
        const check = () => {
          if (enough(records)) {
            clearTimeout(timer);
            listeners.delete(check);
            resolve(records);
          }
        };
        listeners.add(check);
        check();
      });
    },
  };
}

type Receive = (request: unknown, headers: Record<string, unknown>) => void;

async function listenGrpc(receive: Receive): Promise<Pick<OtlpLogReceiver, "endpoint" | "stop">> {
  const server = new grpc.Server();
  const handle: grpc.handleUnaryCall<object, object> = (call, callback) => {
    receive(call.request, call.metadata.getMap());
    callback(null, {});
  };
  server.addService({ Export: exportMethod }, { Export: handle });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { endpoint: `http://127.0.0.1:${port}`, stop: async () => server.forceShutdown() };
}

async function listenHttp(receive: Receive): Promise<Pick<OtlpLogReceiver, "endpoint" | "stop">> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk);
    }
    if (request.url === "/v1/logs") {
      receive(exportMethod.requestDeserialize(Buffer.concat(chunks)), request.headers);
    }
    response.writeHead(request.url === "/v1/logs" ? 200 : 404).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new Error("no port");
  }
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
