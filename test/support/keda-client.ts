import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** A trigger of a ScaledObject, as KEDA sends it. */
export interface ScaledObjectRef {
  readonly name: string;
  readonly namespace: string;
  readonly scalerMetadata: Readonly<Record<string, string>>;
}

/** The states that a stream has sent, and how it ended. */
export interface ActiveStream {
  /** Resolves with the next state that was not read yet. Rejects if the stream ends before. */
  next(): Promise<boolean>;
  /** Status with which the stream has ended. */
  readonly ended: Promise<grpc.status>;
  cancel(): void;
}

/** A metric as KEDA reads it: the whole number is the deprecated form. */
export interface Metric {
  readonly metricName: string;
  readonly float: number;
  readonly whole: string;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const definition = loadSync("externalscaler/externalscaler.proto", {
  includeDirs: [`${root}/third_party/proto`],
  keepCase: true,
  longs: String,
  defaults: true,
});

function methodOf(name: string): grpc.MethodDefinition<object, Record<string, unknown>> {
  const service = definition["externalscaler.ExternalScaler"];
  if (service === undefined || !(name in service)) {
    throw new Error(`KEDA's contract has no ${name}`);
  }
  return (service as Record<string, grpc.MethodDefinition<object, Record<string, unknown>>>)[name] as never;
}

/** A client that has KEDA's contract from its own text, over grpc-js, as KEDA's operator over grpc-go. */
export function createKedaClient(address: string, credentials = grpc.credentials.createInsecure()) {
  const client = new grpc.Client(address, credentials);
  const unary = (name: string, request: object) =>
    new Promise<Record<string, unknown>>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = methodOf(name);
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, response) =>
        error || response === undefined ? reject(error) : resolve(response),
      );
    });
  const serverStream = (name: string, request: object) => {
    const { path, requestSerialize, responseDeserialize } = methodOf(name);
    return client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
  };
  const metricsIn = (list: unknown, float: string, whole: string): Metric[] =>
    (list as Record<string, never>[]).map((one) => ({
      metricName: String(one["metricName"]),
      float: Number(one[float]),
      whole: String(one[whole]),
    }));
  return {
    isActive: async (ref: ScaledObjectRef) => (await unary("IsActive", ref))["result"] === true,
    metricSpecs: async (ref: ScaledObjectRef) =>
      metricsIn((await unary("GetMetricSpec", ref))["metricSpecs"], "targetSizeFloat", "targetSize"),
    metrics: async (ref: ScaledObjectRef, metricName: string) =>
      metricsIn(
        (await unary("GetMetrics", { scaledObjectRef: ref, metricName }))["metricValues"],
        "metricValueFloat",
        "metricValue",
      ),
    streamIsActive(ref: ScaledObjectRef): ActiveStream {
      const stream = serverStream("StreamIsActive", ref);
      const states = stream[Symbol.asyncIterator]();
      const ended = new Promise<grpc.status>((resolve) => stream.on("status", ({ code }) => resolve(code)));
      return {
        async next() {
          const { done, value } = await states.next();
          if (done) {
            throw new Error("the stream has ended");
          }
          return (value as { readonly result: boolean }).result;
        },
        ended,
        cancel: () => stream.cancel(),
      };
    },
    /** Status of a call of the optional rpc. */
    streamMetricSpec: (ref: ScaledObjectRef) =>
      new Promise<grpc.status>((resolve) =>
        serverStream("StreamMetricSpec", ref)
          .on("error", () => {})
          .on("data", () => {})
          .on("status", ({ code }) => resolve(code)),
      ),
    close: () => client.close(),
  };
}
