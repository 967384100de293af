/** Values pushed at one end and iterated over at the other; it keeps what nobody has taken yet. */
export interface Inbox<T> extends AsyncIterable<T> {
  push(value: T): void;
  /** Ends the iteration with an error, at once: what is still in the box is dropped. The first error counts. */
  fail(error: unknown): void;
}

export function createInbox<T>(): Inbox<T> {
  let values: T[] = [];
  let failure: { readonly error: unknown } | undefined;
  let wake = () => {};
  return {
    push(value) {
      if (failure === undefined) {
        values.push(value);
        wake();
      }
    },
    fail(error) {
      failure ??= { error };
      values = [];
      wake();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        for (let value = values.shift(); value !== undefined; value = values.shift()) {
          yield value;
        }
        if (failure !== undefined) {
          throw failure.error;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
