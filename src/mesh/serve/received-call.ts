import type { JsonReadOptions } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest } from "@connectrpc/connect/protocol";
import { anonymousCaller, type Caller, callerContextKey } from "../access/callers.js";
import { invalidArgument, retryDelayMsOf } from "../errors/errors.js";
import type { NodeRequest, NodeResponse } from "../port/node-handler.js";
import { type JsonFieldHint, undecodableField } from "./json-field-hint.js";
import { createJsonShapeCheck } from "./json-shape.js";
import { isClosed, requestHeaders, requestUrl } from "./node-request.js";
import type { Paced } from "./paced.js";
import {
  type BodyLimits,
  bodyFailure,
  checkEncoding,
  discardRest,
  messageTooLarge,
  readBody,
  readEnvelopes,
} from "./request-body.js";
import { isServerTime, limitTimeout } from "./server-deadline.js";
import { inspectResponse } from "./undecodable.js";
import { writeResponse } from "./write-response.js";

/** A call whose body is not read yet. */
export interface ReceivedCall {
  readonly request: NodeRequest;
  readonly response: NodeResponse;
  readonly url: string;
  /** The request's headers, with the server's time limit in place of the caller's. */
  readonly header: Headers;
  readonly contextValues: ContextValues;
  /** Aborted when the client disconnects or the server shuts down; by the handler at the deadline or after a failure. */
  readonly abort: AbortController;
  /** The handler's limits, with a body time limit of at most the call's. */
  readonly limits: BodyLimits;
  /** Checks the access and sets the caller. @throws ConnectError */
  readonly admit: () => void;
  /** Receives what is to run when the call has ended. */
  readonly onEnd: (callback: () => void) => void;
}

/** Options of {@link receiveCall}. */
export interface ReceiveOptions {
  readonly requestPath: string;
  readonly abort: AbortController;
  readonly limits: BodyLimits;
  /** Checks the access. @throws ConnectError */
  readonly admit: () => Caller;
  /** Receives what is to run when the call has ended. */
  readonly onEnd: (callback: () => void) => void;
}

/** Read URL, headers and time limit of a call. The caller is anonymous until the call is admitted. */
export function receiveCall(request: NodeRequest, response: NodeResponse, options: ReceiveOptions): ReceivedCall {
  const { requestPath, abort, limits, admit, onEnd } = options;
  const url = requestUrl(request, requestPath);
  const header = requestHeaders(request);
  const bodyTimeoutMs = Math.min(limits.bodyTimeoutMs, limitTimeout(header) ?? limits.bodyTimeoutMs);
  const contextValues = createContextValues().set(callerContextKey, anonymousCaller).set(isServerTime, true);
  return {
    request,
    response,
    url,
    header,
    contextValues,
    abort,
    limits: { ...limits, bodyTimeoutMs },
    admit: () => void contextValues.set(callerContextKey, admit()),
    onEnd,
  };
}

/** Serve a call with a stream of request messages by Connect's handler. */
export async function serveRequestStream(handler: UniversalHandler, call: ReceivedCall, paced: Paced): Promise<void> {
  const { request, response, header, limits, abort } = call;
  const check = createJsonShapeCheck(header, true, limits.readMaxBytes);
  const body = afterAdmission(call.admit, () =>
    readEnvelopes(request, limits, header, () => isClosed(response), check),
  );
  await writeResponse(await handler(universalRequest(call, body)), response, paced, abort.signal);
}

/**
 * Read the body of a call with one request message, after the access check.
 *
 * A rejection without a listener is no error: a call that is rejected for its headers never awaits its body.
 */
export function readOneMessage(call: ReceivedCall): Promise<Uint8Array> {
  const { request, response, header, limits, admit, onEnd } = call;
  const read = async () => {
    try {
      admit();
    } catch (error) {
      // Connect would compare the announced length with the limit and reveal it to an unauthorized client.
      header.delete("content-length");
      throw error;
    }
    const isHttp2 = "stream" in response;
    if (Number(header.get("content-length")) > limits.readMaxBytes) {
      // Connect would reject the call at once, in words of its own.
      header.delete("content-length");
      if (!isHttp2) {
        throw messageTooLarge(limits.readMaxBytes);
      }
    }
    const enveloped = isEnveloped(header);
    const body = readBody(request, limits, enveloped, () => isClosed(response), response);
    const bytes = await body.catch(async (error: unknown) => {
      // With RetryInfo, it is the memory that is short.
      const isTooLarge = error instanceof ConnectError && error.code === Code.ResourceExhausted;
      if (isHttp2 && isTooLarge && retryDelayMsOf(error) === undefined) {
        await discardRest(request, limits.bodyTimeoutMs);
      }
      throw error;
    });
    onEnd(limits.memory.hold(bytes.byteLength));
    if (enveloped) {
      checkEncoding(bytes[0] ?? 0, header);
    }
    await createJsonShapeCheck(header, enveloped, limits.readMaxBytes)?.(bytes);
    return bytes;
  };
  const body = read();
  body.catch(() => {});
  return body;
}

/** Options of {@link serveOneMessage}. */
export interface ServeOptions {
  readonly paced: Paced;
  readonly jsonOptions: Partial<JsonReadOptions>;
  readonly hintOf: JsonFieldHint | undefined;
}

/** Serve a call with one request message by Connect's handler. Resolves with the code if no interceptor ran. */
export async function serveOneMessage(
  handler: UniversalHandler,
  call: ReceivedCall,
  { paced, jsonOptions, hintOf }: ServeOptions,
): Promise<Code | undefined> {
  const { response, contextValues, abort } = call;
  const body = readOneMessage(call);
  const answered = await handler(universalRequest(call, oneChunk(body)));
  if (handler.method.methodKind !== "unary" || contextValues.get(reached)) {
    await writeResponse(answered, response, paced, abort.signal);
    return undefined;
  }
  const inspected = await inspectResponse(answered);
  const hasBody = contextValues.get(bodyFailure) === undefined;
  if (hasBody && hintOf !== undefined && inspected.code === Code.InvalidArgument && isPlainJson(call.header)) {
    const error = undecodableField(handler.method, await body, jsonOptions, hintOf);
    if (error !== undefined) {
      await writeResponse(await handler(universalRequest(call, failing(error))), response);
      return error.code;
    }
  }
  if (inspected.code !== Code.Internal || !hasBody) {
    await writeResponse(inspected.response, response);
    return inspected.code;
  }
  // Connect returns INTERNAL for undecodable binary, which is the client's error. A second pass writes the error in the call's protocol.
  const error = invalidArgument(`the request cannot be decoded as ${handler.method.input.typeName}`);
  await writeResponse(await handler(universalRequest(call, failing(error))), response);
  return error.code;
}

function universalRequest(call: ReceivedCall, body: AsyncIterable<Uint8Array>): UniversalServerRequest {
  const { request, url, header, contextValues, abort } = call;
  return {
    httpVersion: request.httpVersion,
    method: "POST",
    url,
    header,
    contextValues,
    signal: abort.signal,
    body: recordingFailure(body, contextValues),
  };
}

/** Whether a call has reached the interceptors. */
const reached = createContextKey(false, { description: "reached the interceptors" });

/** Interceptor that marks a call as decoded. Put it first. */
export const markReached: Interceptor = (next) => (request) => {
  request.contextValues.set(reached, true);
  return next(request);
};

/** Whether messages have envelopes: gRPC, gRPC-Web and Connect's streaming calls. */
function isEnveloped(header: Headers): boolean {
  return /^application\/(grpc|connect\+)/i.test(header.get("content-type") ?? "");
}

/** Whether the body is one JSON message, as in Connect's unary calls, without compression. */
function isPlainJson(header: Headers): boolean {
  return /^application\/json\b/i.test(header.get("content-type") ?? "") && !header.has("content-encoding");
}

/** Body that is read after the access check, which may throw. */
async function* afterAdmission(admit: () => void, read: () => AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  admit();
  yield* read();
}

/** Record a body's failure, so that interceptors can distinguish it from an undecodable message. */
async function* recordingFailure(body: AsyncIterable<Uint8Array>, values: ContextValues): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    values.set(bodyFailure, error);
    throw error;
  }
}

async function* oneChunk(body: Promise<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield await body;
}

async function* failing(error: ConnectError): AsyncGenerator<Uint8Array> {
  yield await Promise.reject(error);
}
