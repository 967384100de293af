/** A message of gRPC-Web or of a stream of Connect, behind its five bytes. */
export interface Envelope {
  readonly flags: number;
  readonly data: Buffer;
}

/** Puts a message behind its five bytes. */
export function toEnvelope(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}

/** Yields each message as soon as its last byte is there. */
export async function* envelopesOf(chunks: AsyncIterable<Uint8Array> | null): AsyncGenerator<Envelope> {
  let rest = Buffer.alloc(0);
  for await (const chunk of chunks ?? noChunks()) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
      const end = 5 + rest.readUInt32BE(1);
      yield { flags: rest.readUInt8(0), data: rest.subarray(5, end) };
      rest = rest.subarray(end);
    }
  }
}

/** Body of a response without one. */
export async function* noChunks(): AsyncGenerator<Uint8Array> {}
