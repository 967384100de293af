import { create, isMessage, type Message } from "@bufbuild/protobuf";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { Delivery, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import { type InferRequest, InferRequestSchema, InferStreamRequestSchema } from "../gen/throughline/v1/worker_pb.js";

/** Options of {@link createInlineFallback}. */
export interface InlineFallbackOptions {
  /** Time until INLINE is requested again after a rejection, in milliseconds: the app may be upgraded. @default 10 minutes */
  readonly retryAfterMs?: number | undefined;
  /** Monotonic clock, in milliseconds. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/**
 * Create a client interceptor of one worker app that falls back to DATA_URI if the app rejects DELIVERY_INLINE, as version 1 workers do.
 *
 * The rejected call is repeated, and the result is cached for `retryAfterMs`. Put it inside the interceptor of the call's span, so that both
 * attempts share one span.
 */
export function createInlineFallback(options: InlineFallbackOptions = {}): Interceptor {
  const { retryAfterMs = 600_000, now = () => performance.now() } = options;
  let rejectedAt = Number.NEGATIVE_INFINITY;
  let accepted = false;
  return (next) => async (request) => {
    // A stream's request message may be sent twice.
    const messages = request.stream ? await collect(request.message) : [request.message];
    const call = (edit: (message: Message) => Message) =>
      next(
        request.stream
          ? { ...request, message: iterate(messages.map(edit)) }
          : { ...request, message: edit(request.message) },
      );
    if (now() - rejectedAt < retryAfterMs) {
      return call(asDataUri);
    }
    try {
      const response = await call((message) => message);
      if (accepted || !response.stream) {
        return response;
      }
      // An in-memory transport rejects with the first event, gRPC before it.
      const events = response.message[Symbol.asyncIterator]();
      const first = await events.next();
      accepted = true;
      return { ...response, message: from(first, events) };
    } catch (error) {
      if (!rejectsDelivery(error)) {
        throw error;
      }
      rejectedAt = now();
      return call(asDataUri);
    }
  };
}

async function* from<T>(first: IteratorResult<T>, rest: AsyncIterator<T>): AsyncGenerator<T> {
  for (let result = first; result.done !== true; result = await rest.next()) {
    yield result.value;
  }
}

async function collect(messages: AsyncIterable<Message>): Promise<Message[]> {
  const collected: Message[] = [];
  for await (const message of messages) {
    collected.push(message);
  }
  return collected;
}

async function* iterate(messages: readonly Message[]): AsyncGenerator<Message> {
  yield* messages;
}

/** Copy a worker's request with DATA_URI; other messages are returned unchanged. */
function asDataUri(message: Message): Message {
  if (isMessage(message, InferStreamRequestSchema)) {
    const { request } = message;
    return request === undefined ? message : create(InferStreamRequestSchema, { request: inferAsDataUri(request) });
  }
  return isMessage(message, InferRequestSchema) ? inferAsDataUri(message) : message;
}

function inferAsDataUri(request: InferRequest): InferRequest {
  const options = { ...(request.options ?? create(GenerationOptionsSchema)), delivery: Delivery.DATA_URI };
  return { ...request, options };
}

/** Whether a call failed for a violated rule of `options.delivery`. */
function rejectsDelivery(error: unknown): boolean {
  return (
    error instanceof ConnectError &&
    error.code === Code.InvalidArgument &&
    error
      .findDetails(ViolationsSchema)
      .flatMap(({ violations }) => violations)
      .some(({ field }) => {
        const [parent, name] = field?.elements.slice(-2).map(({ fieldName }) => fieldName) ?? [];
        return parent === "options" && name === "delivery";
      })
  );
}
