import { effect, type ReadonlySignal } from "@preact/signals";

/** Resolves when the value of a signal is as asked. */
export function when<T>(signal: ReadonlySignal<T>, fits: (value: T) => boolean): Promise<T> {
  return new Promise((resolve) => {
    let stop = () => {};
    let done = false;
    stop = effect(() => {
      const value = signal.value;
      if (!done && fits(value)) {
        done = true;
        queueMicrotask(() => stop());
        resolve(value);
      }
    });
  });
}
