/** How a relay treats the events that its reader has not taken yet. */
export interface RelayOptions<T> {
  /** Called before an event is put behind those that wait: the place to lighten them. */
  readonly onBacklog?: (waiting: T[]) => void;
}

/**
 * Reads `source` to its end at the source's own speed and gives its events on at the reader's. A reader that stalls therefore holds up
 * nothing: the source ends, frees what it holds, and its events wait. The source must be bounded, and must stop by a signal of its own
 * when the reader has gone for good.
 */
export async function* relay<T>(source: AsyncIterable<T>, options: RelayOptions<T> = {}): AsyncGenerator<T> {
  const waiting: T[] = [];
  let wake = () => {};
  let end: { readonly error?: unknown } | undefined;
  const pump = async () => {
    try {
      for await (const event of source) {
        options.onBacklog?.(waiting);
        waiting.push(event);
        wake();
      }
      end = {};
    } catch (error) {
      end = { error };
    }
    wake();
  };
  void pump();
  for (;;) {
    const event = waiting.shift();
    if (event !== undefined) {
      yield event;
    } else if (end !== undefined) {
      if ("error" in end) {
        throw end.error;
      }
      return;
    } else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}
