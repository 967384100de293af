import { create, isMessage, type Message } from "@bufbuild/protobuf";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { Delivery, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import { type InferRequest, InferRequestSchema, InferStreamRequestSchema } from "../gen/throughline/v1/worker_pb.js";

/** Options of {@link createInlineFallback}. */
export interface InlineFallbackOptions {
  /** Milliseconds until an app that rejected INLINE is asked for it again: it may have been upgraded. @default 10 minutes */
  readonly retryAfterMs?: number | undefined;
  /** Milliseconds from any fixed point. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/**
 * Client interceptor of one worker app: where the app rejects DELIVERY_INLINE, as workers of the contract's version 1 do, it asks for
 * DATA_URI in the same call, and remembers that. Put it inside the one that makes the call's span, so that the call has one.
 */
export function createInlineFallback(options: InlineFallbackOptions = {}): Interceptor {
  const { retryAfterMs = 600_000, now = () => performance.now() } = options;
  let rejectedAt = Number.NEGATIVE_INFINITY;
  let accepted = false;
  return (next) => async (request) => {
    // A stream has one request message, which is sent a second time.
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
      // A transport in memory gives the rejection with the first event; over gRPC it comes before.
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

/** A copy of a request to a worker that asks for DATA_URI; other messages as they are. */
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

/** Whether a call failed for a broken rule of `options.delivery`. */
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
