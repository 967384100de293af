import { signal as createSignal, type ReadonlySignal } from "@preact/signals";

/** The caller's key, for this tab only. */
export interface CallerKey {
  readonly current: ReadonlySignal<string | undefined>;
  /** Keeps a key until the tab is closed; an empty one forgets it. */
  set(key: string): void;
}

const storageKey = "throughline.key";

/** Opens the key with what this tab has. */
export function openCallerKey(storage: Pick<Storage, "getItem" | "setItem" | "removeItem">): CallerKey {
  const current = createSignal(storage.getItem(storageKey) ?? undefined);
  return {
    current,
    set(key) {
      const trimmed = key.trim();
      current.value = trimmed === "" ? undefined : trimmed;
      if (trimmed === "") {
        storage.removeItem(storageKey);
      } else {
        storage.setItem(storageKey, trimmed);
      }
    },
  };
}
