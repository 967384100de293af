import { internal } from "../mesh/errors/errors.js";

/** What the events of a stream have in common: each says what it is. */
interface Event {
  readonly case?: string | undefined;
  readonly value?: unknown;
}

type Result<E extends Event> = Extract<E, { readonly case: "result" }>["value"];

/**
 * The result among the events of one request. They are read to their end: whoever leaves a span's iteration early has cancelled it.
 *
 * @throws ConnectError INTERNAL when there is none.
 */
export async function resultOf<E extends Event>(events: AsyncIterable<E>): Promise<Result<E>> {
  let result: Result<E> | undefined;
  for await (const event of events) {
    if (isResult(event)) {
      result = event.value;
    }
  }
  if (result === undefined) {
    throw internal("the request ended without a picture");
  }
  return result;
}

function isResult<E extends Event>(event: E): event is Extract<E, { readonly case: "result" }> {
  return event.case === "result";
}
