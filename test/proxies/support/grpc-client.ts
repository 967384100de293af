import * as grpc from "@grpc/grpc-js";
import * as z from "zod";
import { CallFailure, type CallOptions, type Client, type Message, type Server } from "./client.js";
import { methodOf, violatedRules } from "./methods.js";

/**
 * Opens a client of grpc-js over TLS.
 *
 * @param name that the certificate must have. @default localhost
 */
export function openGrpcClient({ port, ca }: Server, name = "localhost"): Client {
  const client = new grpc.Client(`localhost:${port}`, grpc.credentials.createSsl(Buffer.from(ca)), {
    "grpc.enable_retries": 0,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.ssl_target_name_override": name,
  });
  const optionsOf = ({ timeoutMs }: CallOptions): grpc.CallOptions =>
    timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
  return {
    name: "gRPC (grpc-js)",
    unary(path, request, options = {}) {
      const method = methodOf(path);
      return new Promise<Message>((resolve, reject) => {
        const call = client.makeUnaryRequest(
          method.path,
          method.serialize,
          method.deserialize,
          request,
          new grpc.Metadata(),
          optionsOf(options),
          (error, value) => (error === null && value !== undefined ? resolve(value) : reject(toFailure(error))),
        );
        options.signal?.addEventListener("abort", () => call.cancel());
      });
    },
    async *stream(path, request, options = {}) {
      const method = methodOf(path);
      const call = client.makeServerStreamRequest(
        method.path,
        method.serialize,
        method.deserialize,
        request,
        optionsOf(options),
      );
      options.signal?.addEventListener("abort", () => call.cancel());
      try {
        for await (const each of call) {
          yield z.record(z.string(), z.unknown()).parse(each);
        }
      } catch (error) {
        throw toFailure(error);
      }
    },
    close: () => client.close(),
  };
}

function toFailure(error: unknown): unknown {
  if (!(error instanceof Error && "code" in error && "metadata" in error && error.metadata instanceof grpc.Metadata)) {
    return error;
  }
  const [details] = error.metadata.get("grpc-status-details-bin");
  const rules = Buffer.isBuffer(details) ? violatedRules(details) : [];
  return new CallFailure(grpc.status[Number(error.code)] ?? "", error.message, rules);
}
