import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  DescMethodUnary,
  Message,
  MessageInitShape,
} from "@bufbuild/protobuf";
import {
  ConnectError,
  type ContextValues,
  createContextValues,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import type { Policies } from "../grpc/policies.js";
import type { HeadersLike } from "../grpc/request-of.js";
import type { Balancer } from "./balancer.js";
import type { LoadReport } from "./balancing-load.js";
import { attemptListener } from "./call-attempt.js";
import { createRetryBudget } from "./retry-budget.js";
import { type RunningAttempt, retryCall } from "./retry-call.js";
import { explainDeadline } from "./time-limit.js";

/** Options of {@link createBalancedTransport}. */
export interface BalancedTransportOptions {
  /** Finds the workers. The transport does not close it. */
  readonly balancer: Balancer;
  readonly policies: Policies;
  /** Reads what a message of a worker tells of its load. @default nothing is read */
  readonly loadOf?: ((message: Message) => LoadReport | undefined) | undefined;
}

/**
 * A Connect transport to all workers of an app: each call goes to the worker that the balancer chooses, and to another one where it fails
 * before its first event in a way that may be retried. The attempts are told to the call's {@link attemptListener}.
 */
export function createBalancedTransport({ balancer, policies, loadOf }: BalancedTransportOptions): Transport {
  const policy = policies.retry;
  const budget = createRetryBudget(policy.budget);

  const common = (
    method: DescMethod,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    contextValues: ContextValues,
  ) => ({
    balancer,
    budget,
    policy,
    service: method.parent.typeName,
    signal,
    // As in Connect: 0 or less means no limit.
    timeoutMs: timeoutMs !== undefined && timeoutMs > 0 ? timeoutMs : undefined,
    onAttempt: contextValues.get(attemptListener),
  });

  const report = (attempt: RunningAttempt, message: Message): void => {
    const told = loadOf?.(message);
    if (told !== undefined) {
      attempt.load.report(told);
    }
  };

  /** The messages of a stream, of which some may have been read, told to the attempt. */
  async function* rest<M extends Message>(
    read: readonly IteratorResult<M>[],
    unread: AsyncIterator<M>,
    attempt: RunningAttempt,
  ): AsyncGenerator<M> {
    const waiting = [...read];
    try {
      for (;;) {
        const next = waiting.shift() ?? (await unread.next());
        if (next.done === true) {
          break;
        }
        report(attempt, next.value);
        yield next.value;
      }
      attempt.end(undefined);
    } catch (thrown) {
      const error = explainDeadline(thrown, attempt.signal, "waiting for the worker's next event");
      attempt.end(error);
      throw error;
    }
  }

  return {
    unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersLike,
      input: MessageInitShape<I>,
      contextValues: ContextValues = createContextValues(),
    ): Promise<UnaryResponse<I, O>> {
      return retryCall({
        ...common(method, signal, timeoutMs, contextValues),
        repeatable: true,
        async make(attempt) {
          const { worker, signal, timeoutMs } = attempt;
          const response = await worker.transport.unary(method, signal, timeoutMs, header, input, contextValues);
          report(attempt, response.message);
          attempt.end(undefined);
          return response;
        },
      });
    },

    async stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersLike,
      input: AsyncIterable<MessageInitShape<I>>,
      contextValues: ContextValues = createContextValues(),
    ): Promise<StreamResponse<I, O>> {
      const repeatable = method.methodKind === "server_streaming";
      const requests = repeatable ? await readAll(input) : undefined;
      return retryCall({
        ...common(method, signal, timeoutMs, contextValues),
        repeatable,
        make: async (attempt) => {
          const messages = requests === undefined ? input : iterate(requests);
          const { worker, signal, timeoutMs } = attempt;
          const response = await worker.transport.stream(method, signal, timeoutMs, header, messages, contextValues);
          const unread = response.message[Symbol.asyncIterator]();
          // A client that sends several messages may send the next one only when it has read an answer, or none at all.
          const read = repeatable ? [await unread.next()] : [];
          // Nobody reads on after an abort, so its end is told here.
          signal.addEventListener("abort", () => attempt.end(ConnectError.from(signal.reason)), { once: true });
          return { ...response, message: rest(read, unread, attempt) };
        },
      });
    },
  };
}

async function readAll<T>(messages: AsyncIterable<T>): Promise<readonly T[]> {
  const read: T[] = [];
  for await (const message of messages) {
    read.push(message);
  }
  return read;
}

async function* iterate<T>(messages: readonly T[]): AsyncGenerator<T> {
  yield* messages;
}
