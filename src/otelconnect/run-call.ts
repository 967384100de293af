import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { context } from "@opentelemetry/api";
import { bindIterable } from "./bind-iterable.js";
import type { BegunCall, CallRecord, RpcResponse } from "./call-record.js";
import { abortCodeOf, clientCodeOf, leftCodeOf, serverCodeOf } from "./error-code.js";
import { createMessageRecorder, type MessageRecorder } from "./message-events.js";
import type { RpcRequest } from "./rpc-attributes.js";
import { whenAbandoned } from "./when-abandoned.js";

/**
 * Goes on with a call to its end, which is the record's: of a unary call when it is answered or has failed, of a stream when its last
 * message was read or it has failed, when its reader leaves, or, at the client, when nobody can read it any more.
 *
 * Streams are bound to the call's context, so that it is active in a handler's generator and, at the client, in the generator that
 * writes.
 */
export async function runCall(
  next: ReturnType<Interceptor>,
  call: BegunCall,
  record: CallRecord,
): Promise<RpcResponse> {
  const messages = messageRecorders(call);
  let response: RpcResponse;
  try {
    response = await context.with(call.scope, () => next(bindRequest(call, messages?.request)));
  } catch (error) {
    record.end({ code: codeOf(call, error), error });
    throw error;
  }
  record.answered(response);
  if (response.stream) {
    return bindResponse(call, response, record, messages?.response);
  }
  messages?.response(response.message);
  record.end({ code: undefined });
  return response;
}

function codeOf({ side, request }: BegunCall, error: unknown) {
  return side === "server" ? serverCodeOf(error, request.signal) : clientCodeOf(error, request.signal);
}

function bindRequest({ side, request, scope }: BegunCall, message: MessageRecorder | undefined): RpcRequest {
  if (!request.stream) {
    message?.(request.message);
    return request;
  }
  // A server's requests come from the transport, which needs no context.
  if (side === "server" && message === undefined) {
    return request;
  }
  return { ...request, message: bindIterable(scope, () => request.message, { ...(message && { message }) }) };
}

function bindResponse(
  call: BegunCall,
  response: StreamResponse,
  record: CallRecord,
  message: MessageRecorder | undefined,
): StreamResponse {
  const { signal } = call.request;
  const left = () => record.end({ code: leftCodeOf(signal) });
  const bound = bindIterable(call.scope, () => response.message, {
    ...(message && { message }),
    done: () => record.end({ code: undefined }),
    failed: (error) => record.end({ code: codeOf(call, error), error }),
    left,
  });
  // Servers tell a handler's stream of every end. Connect's own clients pass a reader's `break` on to nobody: what ends such a call
  // is its signal, or that it was forgotten.
  if (call.side === "client") {
    endOnAbort(signal, record);
    record.onEnd(whenAbandoned(bound, left));
  }
  return { ...response, message: bound };
}

function endOnAbort(signal: AbortSignal, record: CallRecord): void {
  const aborted = () => record.end({ code: abortCodeOf(signal), error: signal.reason });
  if (signal.aborted) {
    aborted();
    return;
  }
  signal.addEventListener("abort", aborted, { once: true });
  record.onEnd(() => signal.removeEventListener("abort", aborted));
}

function messageRecorders({ side, span, options, request }: BegunCall) {
  if (options.messageEvents !== true || !span.isRecording()) {
    return undefined;
  }
  const isClient = side === "client";
  return {
    request: createMessageRecorder(span, isClient ? "SENT" : "RECEIVED", request.method.input),
    response: createMessageRecorder(span, isClient ? "RECEIVED" : "SENT", request.method.output),
  };
}
