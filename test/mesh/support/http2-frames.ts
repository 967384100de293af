import type { Socket } from "node:net";
import { emptySettings } from "./open-port.js";

/** Frame types of RFC 9113 §6. */
export const frameType = {
  data: 0,
  headers: 1,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
} as const;

/** Flags of RFC 9113 §6: ACK is for SETTINGS and PING, END_STREAM for DATA and HEADERS. */
export const frameFlag = { ack: 1, endStream: 1, endHeaders: 4 } as const;

/** One HTTP/2 frame. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Encodes a frame. */
export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** What a client sends first: the connection preface and empty settings. */
export const clientPreface = Buffer.from(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${emptySettings}`, "latin1");

/** A header block of literals without Huffman coding and without indexing (RFC 7541 §6.2.2). Names and values have at most 126 bytes. */
export function headerBlock(fields: Readonly<Record<string, string>>): Buffer {
  const literal = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text, "latin1")]);
  return Buffer.concat(
    Object.entries(fields).map(([name, value]) => Buffer.concat([Buffer.from([0]), literal(name), literal(value)])),
  );
}

/** Yields the frames that a socket receives, until it closes. */
export async function* framesOf(socket: Socket): AsyncGenerator<Frame, void, undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of socket) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const end = 9 + rest.readUIntBE(0, 3);
      yield {
        type: rest.readUInt8(3),
        flags: rest.readUInt8(4),
        stream: rest.readUInt32BE(5) & 0x7fff_ffff,
        payload: rest.subarray(9, end),
      };
      rest = rest.subarray(end);
    }
  }
}
