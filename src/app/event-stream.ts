/** Options of {@link createEventStream}. */
export interface EventStreamOptions<Event, Message> {
  /** Runs the request. Passes events to `emit` and resolves with the last one. Must end when the call's signal is aborted. */
  readonly run: (emit: (event: Event) => void) => Promise<Event>;
  /** Converts an event to a message when the client reads it. */
  readonly toMessage: (event: Event) => Message | Promise<Message>;
  /** Returns the event without its preview; undefined if it has none. */
  readonly withoutPreview: (event: Event) => Event | undefined;
}

interface StreamEvent {
  readonly case?: string | undefined;
}

/** Maximum previews in the queue, which bounds its bytes. */
const maxPreviews = 8;
/** Maximum events in the queue. A request of 150 steps has fewer; the limit protects against faulty workers. */
const maxEvents = 1_000;

/**
 * Creates a server stream with a bounded queue.
 *
 * A slow client does not block the engine or the request. It receives every step, the newest 8 previews and the newest queue position. An
 * error follows the events emitted before it.
 *
 * Iterate it once. `run` starts with the iteration, in its async context.
 */
export function createEventStream<Event extends StreamEvent, Message>(
  options: EventStreamOptions<Event, Message>,
): AsyncIterable<Message> {
  const { run, toMessage, withoutPreview } = options;
  let waiting: Event[] = [];
  let end: { readonly error?: unknown } | undefined;
  let wake = () => {};

  const emit = (event: Event): void => {
    if (end !== undefined) {
      return;
    }
    if (event.case === "queued" && waiting.at(-1)?.case === "queued") {
      waiting.pop();
    } else if (withoutPreview(event) !== undefined) {
      dropOldestPreview(waiting, withoutPreview);
    }
    if (waiting.length === maxEvents) {
      waiting.shift();
    }
    waiting.push(event);
    wake();
  };
  const finish = (how: { readonly error?: unknown }): void => {
    end ??= how;
    wake();
  };

  return {
    [Symbol.asyncIterator]() {
      run(emit).then(
        (last) => {
          emit(last);
          finish({});
        },
        (error: unknown) => finish({ error }),
      );
      return {
        async next() {
          while (waiting.length === 0 && end === undefined) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
          const event = waiting.shift();
          if (event !== undefined) {
            return { done: false, value: await toMessage(event) };
          }
          if (end !== undefined && "error" in end) {
            throw end.error;
          }
          return { done: true, value: undefined };
        },
        async return() {
          // The client disconnected; the call's signal stops the request.
          finish({});
          waiting = [];
          return { done: true, value: undefined };
        },
      };
    },
  };
}

/** Drop the oldest preview if the queue holds the maximum. */
function dropOldestPreview<Event>(
  waiting: Event[],
  withoutPreview: EventStreamOptions<Event, unknown>["withoutPreview"],
): void {
  const lighter = waiting.flatMap((event, index) => {
    const without = withoutPreview(event);
    return without === undefined ? [] : [{ without, index }];
  });
  const [oldest] = lighter;
  if (oldest !== undefined && lighter.length >= maxPreviews) {
    waiting[oldest.index] = oldest.without;
  }
}
