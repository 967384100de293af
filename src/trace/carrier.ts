import {
  create,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
  isMessage,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import {
  type ContextKey,
  createContextKey,
  type Interceptor,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import {
  type Context,
  type Link,
  ROOT_CONTEXT,
  type TextMapGetter,
  type TextMapPropagator,
  trace,
} from "@opentelemetry/api";
import { type RemoteParent, readRemoteParent } from "../otelconnect/otel-context.js";

/** Trace context for a `map<string, string>` field: `traceparent`, `tracestate`, `baggage`. */
export type Carrier = Readonly<Record<string, string>>;

/** Writes a context into a new carrier. The carrier is empty if there is no trace, for example if tracing is off. */
export function injectCarrier(propagator: TextMapPropagator, scope: Context): Record<string, string> {
  const carrier: Record<string, string> = {};
  propagator.inject(scope, carrier, { set: (pairs, key, value) => Object.assign(pairs, { [key]: value }) });
  return carrier;
}

/**
 * Extracts the context from a carrier.
 *
 * Keys are case-insensitive. Of duplicate keys, the lower-case one takes precedence, then the first. Never throws: an invalid carrier
 * returns `base`.
 */
export function extractCarrier(propagator: TextMapPropagator, carrier: Carrier, base: Context = ROOT_CONTEXT): Context {
  const pairs = new Map<string, string>();
  for (const [key, value] of Object.entries(carrier)) {
    const name = key.toLowerCase();
    if (name === key || !pairs.has(name)) {
      pairs.set(name, value);
    }
  }
  try {
    return propagator.extract(base, pairs, mapGetter);
  } catch {
    // The SDK's propagators skip invalid values, but the API does not guarantee that.
    return base;
  }
}

const mapGetter: TextMapGetter<ReadonlyMap<string, string>> = {
  keys: (pairs) => [...pairs.keys()],
  get: (pairs, key) => pairs.get(key),
};

/** Request field with the caller's carrier, of type `map<string, string>`. */
const carrierField = "trace_context";

/** Field in which a streaming rpc's request wraps the request of the unary rpc, carrier included. */
const wrapperField = "request";

/** Access to the carrier in a method's request messages. */
export interface RequestCarrier {
  /** Returns the carrier of a request; empty if the caller set none. */
  read(message: Message): Carrier;
  /** Returns a copy of the request with this carrier. Returns the request itself if it already has one: the caller's takes precedence. */
  write<Request extends Message>(message: Request, carrier: Carrier): Request;
}

/**
 * Finds the carrier field of a method's requests.
 *
 * The field is `map<string, string> trace_context`, in the request or in the message in its field `request`. Undefined if the contract
 * has none, and for client streams, whose messages have no common context.
 */
export function requestCarrierOf(method: DescMethod): RequestCarrier | undefined {
  if (!known.has(method)) {
    known.set(method, findCarrier(method));
  }
  return known.get(method);
}

/** Cache by method, because every call needs it. */
const known = new WeakMap<DescMethod, RequestCarrier | undefined>();

function findCarrier({ methodKind, input }: DescMethod): RequestCarrier | undefined {
  if (methodKind !== "unary" && methodKind !== "server_streaming") {
    return undefined;
  }
  const wrapper = input.fields.find(({ name }) => name === wrapperField);
  return carrierOf(input) ?? (wrapper?.fieldKind === "message" ? wrappedCarrierOf(wrapper) : undefined);
}

function carrierOf(schema: DescMessage): RequestCarrier | undefined {
  const field = schema.fields.find(({ name }) => name === carrierField);
  if (field?.fieldKind !== "map" || field.mapKey !== ScalarType.STRING || field.scalar !== ScalarType.STRING) {
    return undefined;
  }
  const read = (message: Message): Carrier => {
    // A map of strings is a plain object in every message of this schema.
    const pairs: unknown = Reflect.get(message, field.localName);
    return typeof pairs === "object" && pairs !== null ? Object.fromEntries(Object.entries(pairs)) : {};
  };
  return {
    read,
    write: (message, carrier) =>
      Object.keys(read(message)).length > 0 ? message : { ...message, [field.localName]: carrier },
  };
}

function wrappedCarrierOf(wrapper: DescField & { readonly fieldKind: "message" }): RequestCarrier | undefined {
  const inner = carrierOf(wrapper.message);
  const innerOf = (message: Message): Message => {
    const value: unknown = Reflect.get(message, wrapper.localName);
    return isMessage(value) ? value : create(wrapper.message);
  };
  return (
    inner && {
      read: (message) => inner.read(innerOf(message)),
      write: (message, carrier) => ({ ...message, [wrapper.localName]: inner.write(innerOf(message), carrier) }),
    }
  );
}

/** Context key of the carrier in the request body; see {@link withBodyCarrier}. */
export const bodyCarrier: ContextKey<Carrier> = createContextKey<Carrier>({}, { description: "carrier in the body" });

/** Limits a server interceptor to these services, and sets {@link bodyCarrier} for it. */
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

/** Reads the carrier in a request's body. For a stream, it reads the first message, and the returned request replays it. */
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

/** Trace context received from a caller. */
export interface CallerContext {
  /** Context with the remote parent of the server's span; without a span in it, the server's span is a root. */
  readonly parent: Context;
  /** Links for the server's span. */
  readonly links: readonly Link[];
}

export interface CallerContextOptions {
  readonly propagator: TextMapPropagator;
  /** Headers of the call. */
  readonly header: Headers;
  readonly policy: RemoteParent;
  /** Carrier from the request's body, always trusted. If it names a valid parent, the headers are ignored. */
  readonly carrier?: Carrier;
}

/**
 * Finds the parent of a server's span: body carrier, then headers according to the policy, then none.
 *
 * Starts from the root context. With two services in one process, the active context holds another service's span.
 */
export function readCallerContext({ propagator, header, policy, carrier }: CallerContextOptions): CallerContext {
  const base = carrier === undefined ? ROOT_CONTEXT : extractCarrier(propagator, carrier);
  if (trace.getSpanContext(base) !== undefined) {
    return { parent: base, links: [] };
  }
  return readRemoteParent(propagator, header, policy, base);
}
