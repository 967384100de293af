import {
  create,
  type DescMessage,
  type DescMethod,
  isMessage,
  type Message,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  ConnectError,
  type ContextValues,
  createContextValues,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type Transport,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { runStreamingCall } from "@connectrpc/connect/protocol";
import { canceled } from "../errors/errors.js";
import {
  decodeMessage,
  encodeMessage,
  type StreamCall,
  setTimeoutHeader,
  startStream,
  startUnary,
  type UnaryAnswer,
  waitForReady,
  wireRequestOf,
} from "../grpc/grpc-call.js";
import { appendMetadata, CallFailure } from "../grpc/grpc-status.js";
import type { Policies } from "../grpc/policies.js";
import { attemptListener, withoutLoad } from "./attempt.js";
import type { Balancer } from "./balancer.js";
import { type CallLimit, createCallLimit } from "./call-limit.js";
import type { LoadReport } from "./replica-load.js";
import { createOlderReplicas, type RequestFallback } from "./request-fallback.js";
import { atDeadline, callWithRetries, createRetryBudget, type RunningAttempt } from "./retry.js";

/** Options of {@link createBalancedTransport}. */
export interface BalancedTransportOptions {
  /** Chooses replicas. The caller closes it. */
  readonly balancer: Balancer;
  readonly policies: Policies;
  /** Client interceptors, the outermost first. They run once a call, not once an attempt. @default none */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Reads the worker's load from a response message. @default not read */
  readonly loadOf?: ((message: Message) => LoadReport | undefined) | undefined;
  /** Older form of requests, for replicas that reject the current one. @default none */
  readonly fallback?: RequestFallback | undefined;
}

/**
 * Create a Connect transport to all replicas of an app, over grpc-js.
 *
 * Each call runs the interceptors once and goes to the replica that the balancer chooses. If it fails with a retryable error before its
 * first event, another replica is tried. A replica that rejects the current form of a request gets the older one, in the same call. Attempts are reported to the call's {@link attemptListener}. A call that is aborted or past its
 * deadline resets its stream with CANCEL, so the server stops too. To end a server stream early, abort the call's signal: generated clients
 * do not pass `break` on.
 */
export function createBalancedTransport(options: BalancedTransportOptions): Transport {
  const { balancer, policies, loadOf, fallback } = options;
  const interceptors = [...(options.interceptors ?? [])];
  const policy = policies.retry;
  const { maxSendBytes } = policies.messages;
  const budget = createRetryBudget(policy.budget);
  const older = createOlderReplicas();

  /** Runs the attempts of a call until its limit ends it. */
  const attempts = <T>(
    request: UnaryRequest | StreamRequest,
    limit: CallLimit,
    repeatable: boolean,
    make: (attempt: RunningAttempt) => Promise<T>,
  ): Promise<T> => {
    balancer.open(request.method.parent.typeName);
    return callWithRetries({
      balancer,
      budget,
      policy,
      repeatable,
      fallback,
      older,
      limit,
      waitForReady: request.contextValues.get(waitForReady),
      withoutLoad: request.contextValues.get(withoutLoad),
      onAttempt: request.contextValues.get(attemptListener),
      make,
    });
  };

  const received = <O extends DescMessage>(schema: O, bytes: Uint8Array, attempt: RunningAttempt): MessageShape<O> => {
    const message = decodeMessage(schema, bytes);
    const report = loadOf?.(message);
    if (report !== undefined) {
      attempt.load.report(report);
    }
    return message;
  };

  const encodeOlder = <I extends DescMessage>(schema: I, message: MessageShape<I>): Uint8Array => {
    const converted = fallback?.toOlder(message);
    return encodeMessage(schema, isMessage(converted, schema) ? converted : message, maxSendBytes);
  };

  async function callUnary(request: UnaryRequest | StreamRequest, limit: CallLimit): Promise<UnaryResponse> {
    if (request.stream) {
      throw new Error("an interceptor made a stream of a unary request");
    }
    const { method } = request;
    const wire = wireRequestOf(request);
    const bytes = encodeMessage(method.input, request.message, maxSendBytes);
    return attempts(request, limit, true, async (attempt) => {
      setTimeoutHeader(wire, limit.leftMs());
      const sent = attempt.older ? encodeOlder(method.input, request.message) : bytes;
      const call = startUnary(attempt.replica.connections, wire, sent);
      attempt.cancel = call.cancel;
      const answer = await call.answer;
      const message = received(method.output, answer.message, attempt);
      attempt.end(undefined);
      return unaryResponse(method, message, answer);
    });
  }

  async function callStream<I extends DescMessage, O extends DescMessage>(
    request: StreamRequest<I, O>,
    limit: CallLimit,
  ): Promise<StreamResponse<I, O>> {
    const { method } = request;
    try {
      const wire = wireRequestOf(request);
      // A client stream may depend on responses, or may never end, so it cannot be buffered and repeated.
      const repeatable = method.methodKind === "server_streaming";
      const messages = repeatable ? await readAll(request.message) : undefined;
      const bytes = messages?.map((message) => encodeMessage(method.input, message, maxSendBytes));
      return await attempts(request, limit, repeatable, async (attempt) => {
        setTimeoutHeader(wire, limit.leftMs());
        const call = startStream(attempt.replica.connections, wire);
        attempt.cancel = call.cancel;
        const requests = attempt.older ? messages?.map((message) => encodeOlder(method.input, message)) : bytes;
        void sendAll(call, requests ?? encoded(method.input, request.message, maxSendBytes));
        const first = repeatable ? [await call.read()] : [];
        const header = appendMetadata(new Headers(), await call.header);
        attempt.cancel = (failure) => {
          attempt.end(failure.error);
          call.cancel(failure);
        };
        const trailer = new Headers();
        const message = messagesOf(call, first, {
          limit,
          attempt,
          decode: (bytes) => received(method.output, bytes, attempt),
          onDone: () => appendMetadata(trailer, call.trailer),
        });
        return { stream: true, service: method.parent, method, header, trailer, message };
      });
    } catch (thrown) {
      throw errorOf(thrown);
    }
  }

  return {
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      const limit = createCallLimit(signal, timeoutMs);
      // Interceptors see the error that the caller gets.
      const invoke: ReturnType<Interceptor> = (request) =>
        callUnary(request, limit).catch((thrown: unknown) => {
          throw limit.over?.error ?? ConnectError.from(errorOf(thrown));
        });
      try {
        const message = isMessage(input, method.input) ? input : create(method.input, input);
        const common = { ...requestOf(method, header, contextValues), signal: limit.signal };
        const response = await interceptors.reduceRight(
          (next, each) => each(next),
          invoke,
        )({
          stream: false,
          method,
          message,
          ...common,
        });
        if (!answers(method, response)) {
          throw new Error("an interceptor made another response of a unary one");
        }
        return response;
      } catch (thrown) {
        throw limit.over?.error ?? ConnectError.from(thrown);
      } finally {
        limit.stop();
      }
    },
    stream(method, signal, timeoutMs, header, input, contextValues) {
      const limit = createCallLimit(signal, timeoutMs);
      return runStreamingCall({
        interceptors,
        signal: limit.signal,
        req: { stream: true, method, message: input, ...requestOf(method, header, contextValues) },
        next: (request) => callStream(request, limit),
      }).catch((error: unknown) => {
        limit.stop();
        throw error;
      });
    },
  };
}

function answers<I extends DescMessage, O extends DescMessage>(
  method: DescMethod & { readonly input: I; readonly output: O },
  response: UnaryResponse | StreamResponse,
): response is UnaryResponse<I, O> {
  return !response.stream && isMessage(response.message, method.output);
}

/** Build the Connect response. Headers and trailers are converted on first read, because few callers read them. */
function unaryResponse(method: UnaryRequest["method"], message: Message, answer: UnaryAnswer): UnaryResponse {
  let header: Headers | undefined;
  let trailer: Headers | undefined;
  return {
    stream: false,
    service: method.parent,
    method,
    message,
    get header() {
      header ??= appendMetadata(new Headers(), answer.header);
      return header;
    },
    get trailer() {
      trailer ??= appendMetadata(new Headers(), answer.trailer);
      return trailer;
    },
  };
}

/** Fields that unary and streaming Connect requests share. */
function requestOf(method: DescMethod, header: ConstructorParameters<typeof Headers>[0], values?: ContextValues) {
  return {
    service: method.parent,
    requestMethod: "POST",
    url: `/${method.parent.typeName}/${method.name}`,
    header: new Headers(header),
    contextValues: values ?? createContextValues(),
  };
}

/** Parameters of {@link messagesOf}. */
interface Reading<M> {
  readonly limit: CallLimit;
  readonly attempt: RunningAttempt;
  readonly decode: (bytes: Uint8Array) => M;
  readonly onDone: () => void;
}

/** Messages of a stream, starting with those in `read`. */
function messagesOf<M>(call: StreamCall, read: (Buffer | undefined)[], reading: Reading<M>): AsyncIterable<M> {
  const { limit, attempt, decode, onDone } = reading;
  limit.where = "waiting for the worker's next event";
  const finished: IteratorResult<M> = { done: true, value: undefined };
  const iterator: AsyncIterableIterator<M> = {
    [Symbol.asyncIterator]: () => iterator,
    async next() {
      try {
        const bytes = read.length > 0 ? read.shift() : await call.read();
        if (bytes !== undefined) {
          return { done: false, value: decode(bytes) };
        }
      } catch (thrown) {
        const { error } = atDeadline(thrown, limit);
        limit.stop();
        attempt.end(error);
        throw error;
      }
      limit.stop();
      attempt.end(undefined);
      onDone();
      return finished;
    },
    async return() {
      limit.stop();
      attempt.cancel(new CallFailure(canceled(), "local"));
      return finished;
    },
  };
  return iterator;
}

async function readAll<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const read: T[] = [];
  for await (const message of messages) {
    read.push(message);
  }
  return read;
}

async function* encoded<I extends DescMessage>(schema: I, messages: AsyncIterable<MessageShape<I>>, maxBytes: number) {
  for await (const message of messages) {
    yield encodeMessage(schema, message, maxBytes);
  }
}

/** Send messages with back-pressure, then half-close. An error of the iterable cancels the call. */
async function sendAll(call: StreamCall, messages: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
  try {
    for await (const bytes of messages) {
      if (!(await call.send(bytes))) {
        return;
      }
    }
    call.halfClose();
  } catch (thrown) {
    call.cancel(thrown instanceof CallFailure ? thrown : new CallFailure(ConnectError.from(thrown), "local"));
  }
}

function errorOf(thrown: unknown): unknown {
  return thrown instanceof CallFailure ? thrown.error : thrown;
}
