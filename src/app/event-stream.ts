/** Options of {@link createEventStream}. */
export interface EventStreamOptions<Event, Message> {
  /** Runs the request. Events go to `emit` at once; the event that it returns is the last. It has to end when the call's signal is aborted. */
  readonly run: (emit: (event: Event) => void) => Promise<Event>;
  /** Makes the message of an event when the reader takes it. */
  readonly toMessage: (event: Event) => Message | Promise<Message>;
  /** The event without its preview; undefined where it has none. */
  readonly withoutPreview: (event: Event) => Event | undefined;
}

interface StreamEvent {
  readonly case?: string | undefined;
}

/** Maximum previews in the queue, which bounds its bytes. */
const maxPreviews = 8;
/** Maximum events in the queue. A request of 150 steps has fewer; the bound is for faulty workers. */
const maxEvents = 1_000;

/**
 * The one queue of a server stream: takes events as they come, and gives messages at the reader's speed. So a reader that stalls holds up
 * neither the engine nor the request. It still gets every step, but only the newest 8 previews and the newest position in the queue. A
 * failure comes after the events before it.
 *
 * Can be iterated once. `run` begins with the iteration, in its async context.
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

/** Drop the oldest preview if the queue has the maximum. */
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
