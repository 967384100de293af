import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import {
  type ContextValues,
  createContextValues,
  type Interceptor,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { runStreamingCall, runUnaryCall } from "@connectrpc/connect/protocol";
import { methodPath } from "./grpc-call.js";

/** What the Headers constructor takes; undefined included. */
type HeadersLike = ConstructorParameters<typeof Headers>[0];

/** Puts client interceptors, the outermost first, around a transport that is there already. Time limits stay the transport's affair. */
export function interceptTransport(transport: Transport, clientInterceptors: readonly Interceptor[]): Transport {
  const interceptors = [...clientInterceptors];
  const common = (method: DescMethod, header: HeadersLike, contextValues: ContextValues | undefined) => ({
    service: method.parent,
    requestMethod: "POST",
    url: methodPath(method),
    header: new Headers(header),
    contextValues: contextValues ?? createContextValues(),
  });
  return {
    unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersLike,
      input: MessageInitShape<I>,
      contextValues?: ContextValues,
    ): Promise<UnaryResponse<I, O>> {
      return runUnaryCall<I, O>({
        interceptors,
        ...(signal && { signal }),
        req: { stream: false, method, message: create(method.input, input), ...common(method, header, contextValues) },
        next: (request) =>
          transport.unary(method, request.signal, timeoutMs, request.header, request.message, request.contextValues),
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
      return runStreamingCall<I, O>({
        interceptors,
        ...(signal && { signal }),
        req: { stream: true, method, message: input, ...common(method, header, contextValues) },
        next: (request) =>
          transport.stream(method, request.signal, timeoutMs, request.header, request.message, request.contextValues),
      });
    },
  };
}
