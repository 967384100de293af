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
 * Runs every step of an iteration with `scope` active.
 *
 * Otherwise, the body of an async generator runs in the context of each caller of `next` and loses the context of its creation. Iterate
 * the result once, like a generator.
 *
 * @param source creates the iterable on the first `next`, with `scope` active.
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
  const end = (notify: () => void) => {
    if (!ended) {
      ended = true;
      notify();
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
      end(() => watcher.failed?.(error));
      throw error;
    }
    if (result === undefined || result.done === true) {
      end(whenDone);
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
      end(() => watcher.left?.());
      const result = await context.with(scope, () => open().throw?.(error));
      if (result === undefined) {
        throw error;
      }
      return result;
    },
  };
}

const finished = { done: true, value: undefined } as const;

const registry = new FinalizationRegistry<() => void>((callback) => callback());

/**
 * Call back after the garbage collection of `target`.
 *
 * @param callback must not keep the target alive.
 * @returns a function that cancels the callback.
 */
export function whenCollected(target: object, callback: () => void): () => void {
  registry.register(target, callback, callback);
  return () => {
    registry.unregister(callback);
  };
}
