import { create, type DescMessage, toBinary, toJsonString } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import {
  createAsyncIterable,
  encodeEnvelope,
  type UniversalHandler,
  type UniversalServerRequest,
} from "@connectrpc/connect/protocol";
import { invalidArgument, toClientError } from "../errors/errors.js";
import type { BodyMemory } from "./body-memory.js";
import { checkBody, checkEnvelope, type MessageCheckOptions, requestCompression } from "./message-check.js";
import { refusal } from "./refusal.js";
import { readBody } from "./request-body.js";
import { readEnvelopes } from "./request-envelopes.js";
import { type RequestFormat, requestFormat } from "./request-format.js";

/** Limits of {@link screenRequest}. */
export interface ScreenLimits {
  /** Largest request message, in bytes, compressed and decompressed. */
  readonly readMaxBytes: number;
  /** Time for the whole body of a call with one request message to arrive, in milliseconds. */
  readonly bodyTimeoutMs: number;
  /** Holds the bytes of a message until it is whole. */
  readonly memory: BodyMemory;
}

/** Lets a call in before its body is read, or throws the ConnectError to answer with. */
export type Admit = () => void;

/** setTimeout fires at once above this, so a longer time limit is cut to it: 24 days. */
const maxTimeoutMs = 2_147_483_000;

/**
 * Reads a request before Connect does, so that one place says what is wrong with a request that cannot be read, for every protocol,
 * in words that quote nothing of it.
 *
 * A readable request is passed on with the same bytes. An unreadable one is passed on with an empty message and its {@link refusal},
 * so that it is traced and answered in the caller's protocol. Connect alone would refuse it before any interceptor runs, and would quote
 * the input.
 */
export async function screenRequest(
  { method }: UniversalHandler,
  request: UniversalServerRequest,
  limits: ScreenLimits,
  admit: Admit,
): Promise<UniversalServerRequest> {
  const format = requestFormat(method, request.header.get("content-type"));
  if (format === undefined || !isByteStream(request.body)) {
    return request;
  }
  const header = new Headers(request.header);
  const check = { schema: method.input, format, maxBytes: limits.readMaxBytes };
  try {
    admit();
    const timeoutMs = limitTimeout(header, format);
    const options = { ...check, compression: requestCompression(header, format) };
    if (method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming") {
      return { ...request, header, body: screenStream(request.body, options, limits.memory) };
    }
    // One byte more than a limit is enough to see that it is broken; an envelope's prefix comes on top.
    const maxBytes = limits.readMaxBytes + (format.enveloped ? 5 : 0);
    const bodyTimeoutMs = Math.min(limits.bodyTimeoutMs, timeoutMs ?? maxTimeoutMs);
    const bodyLimits = { maxBytes, timeoutMs: bodyTimeoutMs, memory: limits.memory };
    const body = await readBody(request.body, bodyLimits, request.signal);
    await checkBody(body, options);
    return { ...request, header, body: createAsyncIterable([body]) };
  } catch (error) {
    return refuse({ ...request, header }, toClientError(error, request.signal), method.input, format);
  }
}

async function* screenStream(
  body: AsyncIterable<Uint8Array>,
  options: MessageCheckOptions,
  memory: BodyMemory,
): AsyncGenerator<Uint8Array> {
  const endStreamFlags = 0b1000_0010;
  for await (const { flags, data } of readEnvelopes(body, { maxBytes: options.maxBytes, memory })) {
    if ((flags & endStreamFlags) === 0) {
      await checkEnvelope(flags, data, options);
    }
    yield encodeEnvelope(flags, data);
  }
}

function refuse(
  request: UniversalServerRequest,
  error: ConnectError,
  schema: DescMessage,
  format: RequestFormat,
): UniversalServerRequest {
  const { header } = request;
  for (const name of [format.encodingHeader, "content-length"]) {
    header.delete(name);
  }
  if (error.code === Code.DeadlineExceeded) {
    header.delete(format.timeoutHeader);
  }
  const empty = create(schema);
  const message = format.binary ? toBinary(schema, empty) : new TextEncoder().encode(toJsonString(schema, empty));
  const body = createAsyncIterable([format.enveloped ? encodeEnvelope(0, message) : message]);
  request.contextValues?.set(refusal, error);
  return { ...request, body };
}

/** Checks the time limit and cuts one that no timer can take. Returns it in milliseconds, undefined without one. */
function limitTimeout(header: Headers, format: RequestFormat): number | undefined {
  const value = header.get(format.timeoutHeader);
  if (value === null) {
    return undefined;
  }
  const timeoutMs = format.parseTimeout(value);
  if (timeoutMs === undefined) {
    header.delete(format.timeoutHeader);
    throw invalidArgument(`${format.timeoutHeader}: not a valid time limit`);
  }
  if (timeoutMs <= maxTimeoutMs) {
    return timeoutMs;
  }
  const seconds = maxTimeoutMs / 1000;
  header.set(format.timeoutHeader, format.timeoutHeader === "grpc-timeout" ? `${seconds}S` : `${maxTimeoutMs}`);
  return maxTimeoutMs;
}

function isByteStream(body: UniversalServerRequest["body"]): body is AsyncIterable<Uint8Array> {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}
