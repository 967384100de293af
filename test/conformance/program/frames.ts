import type { Writable } from "node:stream";
import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";

const headBytes = 4;

/** Reads messages as the suite's runner writes them: each behind its size, a 32-bit number in network order. */
export async function* readMessages<Desc extends DescMessage>(
  schema: Desc,
  input: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageShape<Desc>> {
  let unread = Buffer.alloc(0);
  for await (const chunk of input) {
    unread = Buffer.concat([unread, chunk]);
    while (unread.length >= headBytes && unread.length >= headBytes + unread.readUInt32BE()) {
      const end = headBytes + unread.readUInt32BE();
      yield fromBinary(schema, unread.subarray(headBytes, end));
      unread = unread.subarray(end);
    }
  }
}

/** Writes a message as the runner reads it. */
export function writeMessage<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc>,
  output: Writable,
): void {
  const bytes = toBinary(schema, message);
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(bytes.byteLength);
  output.write(Buffer.concat([head, bytes]));
}
