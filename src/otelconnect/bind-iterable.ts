import { type Context, context } from "@opentelemetry/api";

/** Listener of an iteration. Exactly one of `done`, `failed` and `left` is called, once. */
export interface IterationWatcher<T> {
  /** The source returned a value. */
  message?(value: T): void;
  /** The source ended. */
  done?(): void;
  /** The source failed. */
  failed?(error: unknown): void;
  /** The consumer stopped early, by `return` or `throw`. */
  left?(): void;
}

/**
 * Runs every step of an iteration with `scope` active. Without it the code inside an async generator runs in the context of
 * whoever asks for the next value, and loses the one in which it was created. The result can be iterated once, as a generator.
 *
 * @param source creates the iterable with the first `next`; it runs with `scope` active too.
 * @see https://github.com/open-telemetry/opentelemetry-js/issues/2951
 */
export function bindIterable<T>(
  scope: Context,
  source: () => AsyncIterable<T>,
  watcher: IterationWatcher<T>,
): AsyncIterableIterator<T> {
  let opened: AsyncIterator<T> | undefined;
  let ended = false;
  const open = () => {
    opened ??= source()[Symbol.asyncIterator]();
    return opened;
  };
  const tell = (how: () => void) => {
    if (!ended) {
      ended = true;
      how();
    }
  };
  const step = async (
    ask: (iterator: AsyncIterator<T>) => Promise<IteratorResult<T>> | undefined,
    whenDone: () => void,
  ): Promise<IteratorResult<T>> => {
    let result: IteratorResult<T> | undefined;
    try {
      result = await context.with(scope, () => ask(open()));
    } catch (error) {
      tell(() => watcher.failed?.(error));
      throw error;
    }
    if (result === undefined || result.done === true) {
      tell(whenDone);
      return result ?? finished;
    }
    watcher.message?.(result.value);
    return result;
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: () =>
      step(
        (iterator) => iterator.next(),
        () => watcher.done?.(),
      ),
    return: (value?: unknown) =>
      step(
        (iterator) => iterator.return?.(value),
        () => watcher.left?.(),
      ),
    throw: async (error?: unknown) => {
      tell(() => watcher.left?.());
      const result = await context.with(scope, () => open().throw?.(error));
      if (result === undefined) {
        throw error;
      }
      return result;
    },
  };
}

const finished = { done: true, value: undefined } as const;

const registry = new FinalizationRegistry<() => void>((tell) => tell());

/**
 * Call back once `target` was garbage-collected.
 *
 * @param tell must not keep the target alive.
 * @returns a function that cancels the callback.
 */
export function whenCollected(target: object, tell: () => void): () => void {
  registry.register(target, tell, tell);
  return () => {
    registry.unregister(tell);
  };
}
