import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { Span } from "@opentelemetry/api";

/** Records the messages of one direction of a call, in their order. */
export type MessageRecorder = (message: MessageShape<DescMessage>) => void;

/**
 * Makes `rpc.message` events: `rpc.message.type`, `rpc.message.id` (counted from 1 in each direction) and
 * `rpc.message.uncompressed_size`, the bytes of the message in Protobuf's binary form. Measuring takes a serialisation of its own.
 *
 * The conventions deprecate these events and name no successor.
 */
export function createMessageRecorder(span: Span, type: "SENT" | "RECEIVED", schema: DescMessage): MessageRecorder {
  let id = 0;
  return (message) => {
    id += 1;
    span.addEvent("rpc.message", {
      "rpc.message.type": type,
      "rpc.message.id": id,
      "rpc.message.uncompressed_size": toBinary(schema, message).byteLength,
    });
  };
}
