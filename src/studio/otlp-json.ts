import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import {
  type ExportTraceServiceRequest,
  ExportTraceServiceRequestSchema,
} from "../gen/opentelemetry/proto/collector/trace/v1/trace_service_pb.js";

/**
 * Reads an export in OTLP's JSON, which is Protobuf's JSON but for the ids: they are hexadecimal and not base64.
 *
 * @throws when the text is not JSON, or not an export.
 * @see https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
export function exportFromJson(json: string): ExportTraceServiceRequest {
  return fromJson(ExportTraceServiceRequestSchema, withBase64Ids(JSON.parse(json)), { ignoreUnknownFields: true });
}

/** Attributes are lists of `{key, value}`, so that an object's own keys are always the names of Protobuf fields. */
const idFields = new Set(["traceId", "spanId", "parentSpanId"]);

function withBase64Ids(value: JsonValue): JsonValue {
  if (Array.isArray(value)) {
    return value.map(withBase64Ids);
  }
  if (typeof value !== "object" || value === null) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (!idFields.has(key) || typeof inner !== "string") {
        return [key, withBase64Ids(inner)];
      }
      if (!/^([0-9a-f]{2})*$/i.test(inner)) {
        throw new Error(`${key} is not hexadecimal`);
      }
      return [key, Buffer.from(inner, "hex").toString("base64")];
    }),
  );
}
