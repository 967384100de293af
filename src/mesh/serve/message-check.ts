import { type DescMessage, fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { createConnectError } from "../errors/connect-error.js";
import { internal, invalidArgument } from "../errors/errors.js";
import { envelopeHeadBytes, firstEnvelope } from "./envelope.js";
import { checkJson, maxMembers } from "./json-check.js";
import { findLargeMap } from "./map-pairs.js";
import { messageTooLarge } from "./request-body.js";
import type { RequestFormat } from "./request-format.js";

/** Compressions that servers take and offer. */
export const compressions: readonly Compression[] = [compressionGzip, compressionBrotli];

const strictUtf8 = new TextDecoder("utf-8", { fatal: true });
const compressedFlag = 0b1;

/** The compression that a request names; null for none. Throws UNIMPLEMENTED for one that is not served, naming those that are. */
export function requestCompression(header: Headers, format: RequestFormat): Compression | null {
  const name = header.get(format.encodingHeader) ?? "identity";
  if (name === "identity") {
    return null;
  }
  const found = compressions.find((each) => each.name === name);
  if (found !== undefined) {
    return found;
  }
  const names = compressions.map((each) => each.name).join(",");
  throw createConnectError({
    code: Code.Unimplemented,
    message: `unknown compression: supported encodings are ${names}`,
    metadata: { [format.acceptHeader]: names },
  });
}

/** How to read one message. */
export interface MessageCheckOptions {
  readonly schema: DescMessage;
  readonly format: RequestFormat;
  readonly compression: Compression | null;
  /** Largest message, in bytes, compressed and decompressed. */
  readonly maxBytes: number;
}

/**
 * Checks that a whole request body is exactly one message that decodes. Rejects with the ConnectError to answer with, whose text is
 * free of the input.
 */
export async function checkBody(body: Uint8Array, options: MessageCheckOptions): Promise<void> {
  if (!options.format.enveloped) {
    // An empty body is an empty message, and not a compressed one.
    return checkMessage(body, body.byteLength > 0, options);
  }
  const envelope = firstEnvelope(body, options.maxBytes);
  if (envelope === undefined) {
    throw body.byteLength === 0 ? wrongCount("missing") : invalidArgument("the message is incomplete");
  }
  if (body.byteLength > envelopeHeadBytes + envelope.data.byteLength) {
    throw wrongCount("more than one");
  }
  await checkEnvelope(envelope.flags, envelope.data, options);
}

/** Checks one enveloped message by its flags and data; see {@link checkBody}. */
export function checkEnvelope(flags: number, data: Uint8Array, options: MessageCheckOptions): Promise<void> {
  const compressed = (flags & compressedFlag) !== 0;
  if (compressed && options.compression === null) {
    throw internal("the message is compressed, but no encoding is named");
  }
  return checkMessage(data, compressed, options);
}

async function checkMessage(data: Uint8Array, compressed: boolean, options: MessageCheckOptions): Promise<void> {
  const { schema, format, compression, maxBytes } = options;
  if (data.byteLength > maxBytes) {
    throw messageTooLarge(maxBytes);
  }
  const plain = compressed && compression !== null ? await decompress(data, compression, maxBytes) : data;
  const problem = format.binary ? checkBinary(schema, plain) : checkText(schema, plain);
  if (problem !== undefined) {
    throw invalidArgument(problem);
  }
}

async function decompress(data: Uint8Array, compression: Compression, maxBytes: number): Promise<Uint8Array> {
  try {
    return await compression.decompress(data, maxBytes);
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.ResourceExhausted) {
      throw messageTooLarge(maxBytes);
    }
    // Connect tells some broken data from others, of which it makes INTERNAL.
    throw invalidArgument(`malformed ${compression.name} data`, error);
  }
}

function checkBinary(schema: DescMessage, data: Uint8Array): string | undefined {
  try {
    const map = findLargeMap(schema, data, maxMembers);
    if (map !== undefined) {
      return `${map}: a map has more than ${maxMembers} pairs`;
    }
    fromBinary(schema, data);
    return undefined;
  } catch {
    return `malformed protobuf message, expected ${schema.typeName}`;
  }
}

function checkText(schema: DescMessage, data: Uint8Array): string | undefined {
  let text: string;
  try {
    text = strictUtf8.decode(data);
  } catch {
    return "malformed JSON: not UTF-8";
  }
  return checkJson(schema, text);
}

/** gRPC's own code for a request that breaks the method's cardinality. */
function wrongCount(what: string): ConnectError {
  return createConnectError({ code: Code.Unimplemented, message: `protocol error: ${what} request message` });
}
