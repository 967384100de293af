import { compressedFlag } from "@connectrpc/connect/protocol";
import { invalidArgument } from "../errors/errors.js";
import { acceptCompression, messageEncoding } from "./compressions.js";
import { envelopeHeadBytes } from "./request-body.js";

/** Maximum depth of nested objects and arrays in a JSON request; Protobuf's own limit for messages. */
export const maxJsonDepth = 100;

/** Maximum number of values in a JSON request, members of objects and elements of arrays together. */
export const maxJsonValues = 100_000;

const [quote, backslash, comma] = [0x22, 0x5c, 0x2c];
const [openArray, closeArray, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * Why a JSON text is too deep or has too many values to be parsed, or undefined.
 *
 * `JSON.parse` blocks the process for seconds on 10 MB of brackets, and for some 50 ms on 10 MB of one string. This reads structural bytes
 * only, in linear time, and stops at the limit. Malformed JSON is left to the parser.
 */
export function jsonExcess(json: Uint8Array): string | undefined {
  const bytes = Buffer.from(json.buffer, json.byteOffset, json.byteLength);
  let depth = 0;
  let values = 1;
  let strings = 0;
  for (let i = 0; i < bytes.length; i++) {
    switch (bytes[i]) {
      case quote:
        i = endOfString(bytes, i);
        strings++;
        break;
      case openArray:
      case openObject:
        depth++;
        values++;
        break;
      case closeArray:
      case closeObject:
        depth--;
        break;
      case comma:
        values++;
        break;
      default:
        continue;
    }
    if (depth > maxJsonDepth) {
      return `the JSON is nested deeper than the limit of ${maxJsonDepth}`;
    }
    // A value has at most two strings: its name and itself.
    if (values > maxJsonValues || strings > 2 * maxJsonValues) {
      return `the JSON has more values than the limit of ${maxJsonValues}`;
    }
  }
  return undefined;
}

/** Position of a string's last quote; the end of the text where there is none. */
function endOfString(bytes: Buffer, start: number): number {
  for (let end = bytes.indexOf(quote, start + 1); end !== -1; end = bytes.indexOf(quote, end + 1)) {
    let first = end;
    while (first - 1 > start && bytes[first - 1] === backslash) {
      first--;
    }
    if ((end - first) % 2 === 0) {
      return end;
    }
  }
  return bytes.length;
}

/** Checks the shape of a request message before it is parsed. @throws ConnectError INVALID_ARGUMENT */
export type JsonShapeCheck = (body: Uint8Array) => Promise<void>;

/**
 * Create the check of a call's messages. Compressed ones are decompressed for it; Connect decompresses them again.
 *
 * @param enveloped whether a message is an envelope.
 * @returns undefined if the call's messages are no JSON.
 */
export function createJsonShapeCheck(
  header: Headers,
  enveloped: boolean,
  maxBytes: number,
): JsonShapeCheck | undefined {
  if (!/^application\/(?:\S+\+)?json\b/i.test(header.get("content-type") ?? "")) {
    return undefined;
  }
  const encoding = messageEncoding(header);
  // None for `identity`, and for an encoding that is rejected later.
  const compression = acceptCompression.find(({ name }) => name === encoding);
  return async (body) => {
    const isCompressed = enveloped ? ((body[0] ?? 0) & compressedFlag) !== 0 : compression !== undefined;
    const message = enveloped ? body.subarray(envelopeHeadBytes) : body;
    // What cannot be decompressed is rejected where it is read.
    const json = isCompressed ? await compression?.decompress(message, maxBytes).catch(() => undefined) : message;
    const excess = json && jsonExcess(json);
    if (excess !== undefined) {
      throw invalidArgument(excess);
    }
  };
}
