import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import {
  ConnectError,
  type ContextValues,
  type Interceptor,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { runStreamingCall, runUnaryCall } from "@connectrpc/connect/protocol";
import { saysWhere } from "../errors/errors.js";
import { type HeadersLike, requestOf } from "./request-of.js";

/**
 * Puts client interceptors, the outermost first, around a transport that is there already. Time limits stay the transport's affair, and so
 * do its words about where the time went: a signal that is aborted by a deadline of its own only knows that it is over.
 */
export function interceptTransport(transport: Transport, clientInterceptors: readonly Interceptor[]): Transport {
  const interceptors = [...clientInterceptors];
  return {
    unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersLike,
      input: MessageInitShape<I>,
      contextValues?: ContextValues,
    ): Promise<UnaryResponse<I, O>> {
      const words = createWords();
      return runUnaryCall<I, O>({
        interceptors,
        ...(signal && { signal }),
        req: {
          stream: false,
          method,
          message: create(method.input, input),
          ...requestOf(method, header, contextValues),
        },
        next: (request) =>
          transport
            .unary(method, request.signal, timeoutMs, request.header, request.message, request.contextValues)
            .catch(words.hear),
      }).catch(words.say);
    },
    async stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersLike,
      input: AsyncIterable<MessageInitShape<I>>,
      contextValues?: ContextValues,
    ): Promise<StreamResponse<I, O>> {
      const words = createWords();
      const response = await runStreamingCall<I, O>({
        interceptors,
        ...(signal && { signal }),
        req: { stream: true, method, message: input, ...requestOf(method, header, contextValues) },
        next: async (request) => {
          const { signal, header: fields, message, contextValues: values } = request;
          const answer = await transport.stream(method, signal, timeoutMs, fields, message, values).catch(words.hear);
          return { ...answer, message: onFailure(answer.message, words.hear) };
        },
      }).catch(words.say);
      return { ...response, message: onFailure(response.message, words.say) };
    },
  };
}

/** Keeps what a transport said of where the time of one call went, while Connect puts the signal's reason in its place. */
function createWords() {
  let heard: ConnectError | undefined;
  return {
    hear(error: unknown): never {
      if (error instanceof ConnectError && saysWhere(error)) {
        heard = error;
      }
      throw error;
    },
    say(error: unknown): never {
      throw heard ?? error;
    },
  };
}

async function* onFailure<T>(messages: AsyncIterable<T>, fail: (error: unknown) => never): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    fail(error);
  }
}
