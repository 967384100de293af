import { type Context, context } from "@opentelemetry/api";

/** How an iteration can end. Exactly one of these is called, once. */
export interface IterationEnd {
  /** The source came to its end. */
  done(): void;
  /** The source failed. */
  failed(error: unknown): void;
  /** The consumer left early, through `return` or through `throw`: what went wrong then went wrong elsewhere. */
  left(): void;
}

/**
 * Runs every step of an iteration with `scope` active. Without it the code inside an async generator runs in the context of
 * whoever asks for the next value, and loses the one in which it was created.
 *
 * @param source makes the iterable; it runs with `scope` active too.
 * @see https://github.com/open-telemetry/opentelemetry-js/issues/2951
 */
export function bindIterable<T>(scope: Context, source: () => AsyncIterable<T>, end: IterationEnd): AsyncIterator<T> {
  let ended = false;
  const tell = (how: () => void) => {
    if (!ended) {
      how();
    }
    ended = true;
  };
  const failed = (error: unknown) => tell(() => end.failed(error));
  const step = async (run: () => Promise<IteratorResult<T>> | undefined, whenDone: () => void) => {
    try {
      const result = await context.with(scope, run);
      if (result === undefined || result.done === true) {
        tell(whenDone);
      }
      return result;
    } catch (error) {
      failed(error);
      throw error;
    }
  };
  const iterator = openIn(scope, source, failed);
  return {
    next: async () => (await step(() => iterator.next(), end.done)) ?? finished,
    return: async (value?: unknown) => (await step(() => iterator.return?.(value), end.left)) ?? finished,
    throw: async (error?: unknown) => {
      tell(end.left);
      const result = await context.with(scope, () => iterator.throw?.(error));
      if (result === undefined) {
        throw error;
      }
      return result;
    },
  };
}

const finished = { done: true, value: undefined } as const;

function openIn<T>(scope: Context, source: () => AsyncIterable<T>, failed: (error: unknown) => void): AsyncIterator<T> {
  try {
    return context.with(scope, () => source()[Symbol.asyncIterator]());
  } catch (error) {
    failed(error);
    throw error;
  }
}
