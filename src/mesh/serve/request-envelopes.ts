import type { EnvelopedMessage } from "@connectrpc/connect/protocol";
import { invalidArgument } from "../errors/errors.js";
import type { BodyMemory } from "./body-memory.js";
import { envelopeHeadBytes, firstEnvelope } from "./envelope.js";

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
        // A copy: the buffer's own bytes are moved when it drops some.
        yield { flags: next.flags, data: next.data.slice() };
        buffer.drop(envelopeHeadBytes + next.data.byteLength);
      }
    }
    if (buffer.bytes().byteLength > 0) {
      throw invalidArgument("the message is incomplete");
    }
  } finally {
    buffer.release();
  }
}
