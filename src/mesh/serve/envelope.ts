import type { EnvelopedMessage } from "@connectrpc/connect/protocol";
import { messageTooLarge } from "./request-body.js";

/** Bytes before a message's own: its flags, and its length as four bytes, big-endian. */
export const envelopeHeadBytes = 5;

/**
 * The message that the bytes begin with, its data a view of them; undefined where it is not whole. Throws RESOURCE_EXHAUSTED for one of
 * more than `maxBytes` as soon as its length is known.
 */
export function firstEnvelope(bytes: Uint8Array, maxBytes: number): EnvelopedMessage | undefined {
  if (bytes.byteLength < envelopeHeadBytes) {
    return undefined;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(1);
  if (length > maxBytes) {
    throw messageTooLarge(maxBytes);
  }
  const end = envelopeHeadBytes + length;
  return bytes.byteLength < end ? undefined : { flags: view.getUint8(0), data: bytes.subarray(envelopeHeadBytes, end) };
}
