import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import type { ContextValues, Interceptor, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { runStreamingCall, runUnaryCall } from "@connectrpc/connect/protocol";
import type { Channel } from "./grpc-channel.js";
import { connectErrorFromGrpc } from "./grpc-error.js";
import { callStream } from "./grpc-stream-call.js";
import { callUnary } from "./grpc-unary-call.js";
import { type HeadersLike, requestOf } from "./request-of.js";

/** Options of {@link createGrpcTransport}. */
export interface GrpcTransportOptions {
  /** Where calls go. The transport does not close it. */
  readonly channel: Channel;
  /** Client interceptors, the outermost first. */
  readonly interceptors?: readonly Interceptor[];
}

/**
 * A Connect transport whose calls run on a grpc-js channel: typed clients and interceptors from Connect; keepalive, reconnects and HTTP/2
 * from grpc-js. A channel of the mesh leads to one address, and the balancer above chooses and retries. A call that is aborted, or out of
 * time, resets its stream with CANCEL, so the server stops too. To end a server stream early, abort the call's signal: generated clients
 * do not pass `break` on.
 */
export function createGrpcTransport(options: GrpcTransportOptions): Transport {
  const { client } = options.channel;
  const interceptors = [...(options.interceptors ?? [])];

  /** As in Connect: an absent time limit, and 0 or less, means none. */
  function settings(signal: AbortSignal | undefined, timeoutMs: number | undefined) {
    const deadline = timeoutMs === undefined || timeoutMs <= 0 ? {} : { timeoutMs };
    return { interceptors, ...deadline, ...(signal && { signal }) };
  }

  return {
    unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersLike,
      input: MessageInitShape<I>,
      contextValues?: ContextValues,
    ): Promise<UnaryResponse<I, O>> {
      const call = settings(signal, timeoutMs);
      return runUnaryCall<I, O>({
        ...call,
        req: {
          stream: false,
          method,
          message: create(method.input, input),
          ...requestOf(method, header, contextValues),
        },
        next: (request) => callUnary(client, request, call.timeoutMs).catch(rethrow),
      });
    },
    stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersLike,
      input: AsyncIterable<MessageInitShape<I>>,
      contextValues?: ContextValues,
    ): Promise<StreamResponse<I, O>> {
      const call = settings(signal, timeoutMs);
      return runStreamingCall<I, O>({
        ...call,
        req: { stream: true, method, message: input, ...requestOf(method, header, contextValues) },
        next: (request) => callStream(client, request, call.timeoutMs).catch(rethrow),
      });
    },
  };
}

/** A call that could not even begin fails with what grpc-js threw. */
function rethrow(error: unknown): never {
  throw connectErrorFromGrpc(error);
}
