import type { EnvelopedMessage } from "@connectrpc/connect/protocol";
import { invalidArgument } from "../errors/errors.js";
import type { BodyMemory } from "./body-memory.js";
import { messageTooLarge } from "./request-body.js";

/** Limits of {@link readEnvelopes}. */
export interface EnvelopeLimits {
  /** Largest message, in bytes. */
  readonly maxBytes: number;
  /** Holds a message until it is whole. */
  readonly memory: BodyMemory;
}

/**
 * Splits a streamed body into its enveloped messages, in time linear in its bytes, however small the pieces are. Throws a ConnectError:
 * RESOURCE_EXHAUSTED above the size or where memory is short, INVALID_ARGUMENT where the body ends inside a message.
 */
export async function* readEnvelopes(
  body: AsyncIterable<Uint8Array>,
  { maxBytes, memory }: EnvelopeLimits,
): AsyncGenerator<EnvelopedMessage> {
  const buffer = memory.createBuffer();
  try {
    for await (const chunk of body) {
      buffer.append(chunk);
      for (let next = firstEnvelope(buffer.bytes(), maxBytes); next; next = firstEnvelope(buffer.bytes(), maxBytes)) {
        yield next;
        buffer.drop(5 + next.data.byteLength);
      }
    }
    if (buffer.bytes().byteLength > 0) {
      throw invalidArgument("the message is incomplete");
    }
  } finally {
    buffer.release();
  }
}

function firstEnvelope(bytes: Uint8Array, maxBytes: number): EnvelopedMessage | undefined {
  if (bytes.byteLength < 5) {
    return undefined;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = 5 + view.getUint32(1);
  if (end - 5 > maxBytes) {
    throw messageTooLarge(maxBytes);
  }
  return bytes.byteLength < end ? undefined : { flags: view.getUint8(0), data: bytes.slice(5, end) };
}
