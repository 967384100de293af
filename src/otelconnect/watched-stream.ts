import { type Context, context } from "@opentelemetry/api";

/** What happens to a stream that is read. Exactly one of `done`, `failed` and `left` is called, once. */
export interface StreamWatcher<T> {
  /** Context that is active whenever the source runs. @default the one of each caller of `next` */
  readonly scope?: Context;
  /** Replaces an error before watchers see it and the reader gets it. */
  mapError?(error: unknown): unknown;
  /** The source returned a value. */
  message?(value: T): void;
  /** The source ended. */
  done?(): void;
  /** The source failed. */
  failed?(error: unknown): void;
  /** The reader stopped early, by `return` or `throw`. */
  left?(): void;
}

const addWatcher = Symbol("add a watcher");

interface WatchedStream<T> extends AsyncIterableIterator<T> {
  /** Adds a watcher outside the others. Returns false once the stream is being read. */
  [addWatcher](watcher: StreamWatcher<T>): boolean;
}

/**
 * Watch a stream while it is read. Iterate the result once, like a generator.
 *
 * All watchers of one stream share one iterator: watching a watched stream returns that stream, because each iterator costs every message
 * some turns of the microtask queue. Watchers are called in the order in which they were added: an inner interceptor's first.
 *
 * A `scope` is needed for async generators: their bodies run in the context of each caller of `next` and lose that of their creation. The
 * scope added first, which is the innermost, applies.
 *
 * @see https://github.com/open-telemetry/opentelemetry-js/issues/2951
 */
export function watchStream<T>(source: AsyncIterable<T>, watcher: StreamWatcher<T>): AsyncIterableIterator<T> {
  return isWatched(source) && source[addWatcher](watcher) ? source : createWatchedStream(source, watcher);
}

function isWatched<T>(source: AsyncIterable<T>): source is WatchedStream<T> {
  return addWatcher in source;
}

function createWatchedStream<T>(source: AsyncIterable<T>, first: StreamWatcher<T>): WatchedStream<T> {
  const watchers = [first];
  let { scope } = first;
  let opened: AsyncIterator<T> | undefined;
  let ended = false;

  const inScope = <R>(run: (iterator: AsyncIterator<T>) => R): R => {
    const step = () => {
      opened ??= source[Symbol.asyncIterator]();
      return run(opened);
    };
    return scope === undefined ? step() : context.with(scope, step);
  };
  const end = (notify: (watcher: StreamWatcher<T>) => void): void => {
    if (!ended) {
      ended = true;
      watchers.forEach(notify);
    }
  };
  const fail = (thrown: unknown): unknown => {
    const error = watchers.reduce((mapped, watcher) => watcher.mapError?.(mapped) ?? mapped, thrown);
    end((watcher) => watcher.failed?.(error));
    return error;
  };
  const finished: IteratorResult<T> = { done: true, value: undefined };

  const stream: WatchedStream<T> = {
    [Symbol.asyncIterator]: () => stream,
    [addWatcher](watcher) {
      if (opened !== undefined || ended) {
        return false;
      }
      watchers.push(watcher);
      scope ??= watcher.scope;
      return true;
    },
    async next() {
      let result: IteratorResult<T>;
      try {
        result = await inScope((iterator) => iterator.next());
      } catch (thrown) {
        throw fail(thrown);
      }
      if (result.done === true) {
        end((watcher) => watcher.done?.());
        return result;
      }
      for (const watcher of watchers) {
        watcher.message?.(result.value);
      }
      return result;
    },
    async return(value?: unknown) {
      try {
        const result = await inScope((iterator) => iterator.return?.(value));
        end((watcher) => watcher.left?.());
        return result ?? finished;
      } catch (thrown) {
        throw fail(thrown);
      }
    },
    async throw(error?: unknown) {
      end((watcher) => watcher.left?.());
      try {
        const result = await inScope((iterator) => iterator.throw?.(error));
        if (result !== undefined) {
          return result;
        }
      } catch (thrown) {
        throw fail(thrown);
      }
      throw error;
    },
  };
  return stream;
}

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
