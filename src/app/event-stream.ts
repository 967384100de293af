import { internal } from "../mesh/errors/errors.js";

/** Event of a running request. */
export type RunningEvent<Queued, Progress> =
  | { readonly case: "queued"; readonly value: Queued }
  | { readonly case: "progress"; readonly value: Progress };

/** Event of a stream, with the result as the last one. */
export type StreamEvent<Queued, Progress, Result> =
  | RunningEvent<Queued, Progress>
  | { readonly case: "result"; readonly value: Result };

/** Options of {@link createEventStream}. */
export interface EventStreamOptions<Request, Queued, Progress, Result, Message> {
  /** The request in the stream's message, which validation requires. Undefined: the stream fails with INTERNAL. */
  readonly request: Request | undefined;
  /** Runs the request. Passes events to `emit` and resolves with the result. Must end when the call's signal is aborted. */
  readonly run: (request: Request, emit: (event: RunningEvent<Queued, Progress>) => void) => Promise<Result>;
  /** Converts an event to a message when the client reads it. */
  readonly toMessage: (event: StreamEvent<Queued, Progress, Result>) => Message | Promise<Message>;
  /** Copies a progress without its preview; undefined if it has none. */
  readonly withoutPreview: (progress: Progress) => Progress | undefined;
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
export function createEventStream<Request, Queued, Progress, Result, Message>(
  options: EventStreamOptions<Request, Queued, Progress, Result, Message>,
): AsyncIterable<Message> {
  type Event = StreamEvent<Queued, Progress, Result>;
  const { request, run, toMessage, withoutPreview } = options;
  let waiting: { event: Event }[] = [];
  /** Each drops the preview of one event, the oldest first. Those of events already read have no effect. */
  let dropPreview: (() => void)[] = [];
  let end: { readonly error?: unknown } | undefined;
  let wake = () => {};

  const emit = (event: Event): void => {
    if (end !== undefined) {
      return;
    }
    if (event.case === "queued" && waiting.at(-1)?.event.case === "queued") {
      waiting.pop();
    }
    if (waiting.length === maxEvents) {
      waiting.shift();
    }
    const entry = { event };
    waiting.push(entry);
    const value = event.case === "progress" ? withoutPreview(event.value) : undefined;
    if (value !== undefined) {
      dropPreview.push(() => {
        entry.event = { case: "progress", value };
      });
    }
    if (dropPreview.length > maxPreviews) {
      dropPreview.shift()?.();
    }
    wake();
  };
  const finish = (how: { readonly error?: unknown }): void => {
    end ??= how;
    wake();
  };
  const start = async (): Promise<void> => {
    if (request === undefined) {
      throw internal("the request was not validated");
    }
    emit({ case: "result", value: await run(request, emit) });
  };

  return {
    [Symbol.asyncIterator]() {
      start().then(
        () => finish({}),
        (error: unknown) => finish({ error }),
      );
      return {
        async next() {
          while (waiting.length === 0 && end === undefined) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
          const entry = waiting.shift();
          if (entry !== undefined) {
            return { done: false, value: await toMessage(entry.event) };
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
          dropPreview = [];
          return { done: true, value: undefined };
        },
      };
    },
  };
}
