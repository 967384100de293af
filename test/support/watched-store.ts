import { EventEmitter, once } from "node:events";
import { createSpanStore, type SpanStore, type SpanStoreOptions } from "../../src/studio/span-store.js";

/** A span store that a test can ask when its listeners come and go. */
export function createWatchedStore(options: SpanStoreOptions = {}): SpanStore & {
  /** Resolves when there are so many listeners. */
  listeners(count: number): Promise<void>;
} {
  const changes = new EventEmitter().setMaxListeners(0);
  const store = createSpanStore(options);
  return {
    ...store,
    subscribe(listener) {
      const leave = store.subscribe(listener);
      changes.emit("change");
      return () => {
        leave();
        changes.emit("change");
      };
    },
    async listeners(count) {
      while (store.listenerCount() !== count) {
        await once(changes, "change");
      }
    },
  };
}
