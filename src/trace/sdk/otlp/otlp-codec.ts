import {
  type IExportLogsServiceResponse,
  type IExportTraceServiceResponse,
  type ISerializer,
  ProtobufLogsSerializer,
  ProtobufTraceSerializer,
} from "@opentelemetry/otlp-transformer";
import type { logs, tracing } from "@opentelemetry/sdk-node";

/** What a collector did not take of an export, and its words, also where it took all. */
export interface OtlpRejection {
  readonly items: number;
  readonly words: string;
}

/** The requests and the answers of one of OTLP's services. */
export interface OtlpCodec<Item> {
  /** @returns undefined for what cannot be encoded. */
  encode(items: Item[]): Uint8Array | undefined;
  /** Reads an answer that took the request. */
  rejection(response: Uint8Array): OtlpRejection;
}

/** Spans. */
export const spanCodec: OtlpCodec<tracing.ReadableSpan> = codecOf(
  ProtobufTraceSerializer,
  ({ partialSuccess }: IExportTraceServiceResponse) => ({
    items: partialSuccess?.rejectedSpans ?? 0,
    words: partialSuccess?.errorMessage ?? "",
  }),
);

/** Log records. */
export const logRecordCodec: OtlpCodec<logs.ReadableLogRecord> = codecOf(
  ProtobufLogsSerializer,
  ({ partialSuccess }: IExportLogsServiceResponse) => ({
    items: partialSuccess?.rejectedLogRecords ?? 0,
    words: partialSuccess?.errorMessage ?? "",
  }),
);

function codecOf<Item, Response>(
  serializer: ISerializer<Item[], Response>,
  rejectionOf: (response: Response) => OtlpRejection,
): OtlpCodec<Item> {
  return {
    encode(items) {
      try {
        // Without room to spare, which would be kept for as long and not be counted.
        return serializer.serializeRequest(items)?.slice();
      } catch {
        return undefined;
      }
    },
    rejection(response) {
      try {
        return rejectionOf(serializer.deserializeResponse(response));
      } catch {
        // All was taken; a collector that answers with something else than it should has said no more than that.
        return { items: 0, words: "" };
      }
    },
  };
}
