import { fileURLToPath } from "node:url";
import { loadSync, type MessageTypeDefinition } from "@grpc/proto-loader";
import * as z from "zod";
import type { Message } from "./client.js";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const definition = loadSync(
  [
    ...["throughline/v1/pipeline.proto", "throughline/v1/job.proto"],
    ...["grpc/health/v1/health.proto", "google/rpc/status.proto"],
  ],
  { includeDirs: [`${root}/proto`, `${root}/third_party/proto`], keepCase: true, enums: String, oneofs: true },
);
const anyMessage = z.record(z.string(), z.unknown());

/** A method of a `.proto` file. */
export interface Method {
  readonly path: string;
  serialize(request: object): Buffer;
  deserialize(response: Uint8Array): Message;
}

/** Finds a method by its path, such as `throughline.v1.JobService/GetJob`. One that is unknown has empty messages. */
export function methodOf(path: string): Method {
  const [service = "", name = ""] = path.split("/");
  const found = definition[service];
  const method = found === undefined || "format" in found ? undefined : found[name];
  return {
    path: `/${path}`,
    serialize: (request) => method?.requestSerialize(request) ?? Buffer.alloc(0),
    deserialize: (bytes) => anyMessage.parse(method?.responseDeserialize(Buffer.from(bytes)) ?? {}),
  };
}

/** Rules that `buf.validate.Violations` names, from the bytes of `grpc-status-details-bin`. */
export function violatedRules(statusDetails: Uint8Array): readonly string[] {
  return statusSchema
    .parse(decode("google.rpc.Status", statusDetails))
    .details.filter(({ type_url }) => type_url.endsWith("/buf.validate.Violations"))
    .flatMap(({ value }) => rulesOf(value));
}

/** Rules that a `buf.validate.Violations` names. */
export function rulesOf(violations: Uint8Array): readonly string[] {
  const decoded = violationsSchema.parse(decode("buf.validate.Violations", violations));
  return decoded.violations.map(({ rule_id }) => rule_id);
}

const statusSchema = z.object({
  details: z.array(z.object({ type_url: z.string(), value: z.instanceof(Uint8Array) })).default([]),
});
const violationsSchema = z.object({ violations: z.array(z.object({ rule_id: z.string() })) });

function decode(type: string, bytes: Uint8Array): unknown {
  const found = definition[type];
  if (found === undefined || !isMessageType(found)) {
    throw new Error(`the .proto files have no message ${type}`);
  }
  return found.deserialize(Buffer.from(bytes));
}

const isMessageType = (each: object): each is MessageTypeDefinition<object, object> => "deserialize" in each;
