import type { DescService } from "@bufbuild/protobuf";
import {
  type ContextKey,
  createContextKey,
  type Interceptor,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import type { Carrier } from "./carrier.js";
import { requestCarrierOf } from "./request-carrier.js";

/** Key under which an interceptor finds what the body of a request says of the trace; see {@link withBodyCarrier}. */
export const bodyCarrier: ContextKey<Carrier> = createContextKey<Carrier>({}, { description: "carrier in the body" });

/** Runs a server interceptor for calls of these services only, with the carrier of their requests under {@link bodyCarrier}. */
export function withBodyCarrier(interceptor: Interceptor, services: readonly DescService[]): Interceptor {
  const served = new Set(services.map((service) => service.typeName));
  return (next) => {
    const intercepted = interceptor(next);
    return async (received) => {
      if (!served.has(received.service.typeName)) {
        return next(received);
      }
      const { request, carrier } = await readRequestCarrier(received);
      request.contextValues.set(bodyCarrier, carrier);
      return intercepted(request);
    };
  };
}

/** Reads the carrier in a request's body. Of a stream that takes the first message, which the request that is passed on gives again. */
async function readRequestCarrier(
  request: UnaryRequest | StreamRequest,
): Promise<{ readonly request: UnaryRequest | StreamRequest; readonly carrier: Carrier }> {
  const requestCarrier = requestCarrierOf(request.method);
  if (requestCarrier === undefined) {
    return { request, carrier: {} };
  }
  if (!request.stream) {
    return { request, carrier: requestCarrier.read(request.message) };
  }
  const messages = request.message[Symbol.asyncIterator]();
  const [first] = await Promise.allSettled([messages.next()]);
  const begun = first.status === "fulfilled" && first.value.done !== true;
  return {
    request: { ...request, message: replay(first, messages) },
    carrier: begun ? requestCarrier.read(first.value.value) : {},
  };
}

async function* replay<T>(first: PromiseSettledResult<IteratorResult<T>>, rest: AsyncIterator<T>): AsyncGenerator<T> {
  if (first.status === "rejected") {
    throw first.reason;
  }
  try {
    for (let result = first.value; result.done !== true; result = await rest.next()) {
      yield result.value;
    }
  } finally {
    await rest.return?.();
  }
}
