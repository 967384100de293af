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

/** A trace context as plain pairs, fit for a `map<string, string>` field: `traceparent`, `tracestate`, `baggage`. */
export type Carrier = Readonly<Record<string, string>>;

/** Writes a context into a new carrier. Empty when there is no trace, as with tracing switched off. */
export function injectCarrier(propagator: TextMapPropagator, scope: Context): Record<string, string> {
  const carrier: Record<string, string> = {};
  propagator.inject(scope, carrier, { set: (pairs, key, value) => Object.assign(pairs, { [key]: value }) });
  return carrier;
}

/**
 * Reads a carrier on top of `base`. Keys match case-insensitively; where several spell the same key, the one in lower case is
 * taken, else the first. Never throws, whatever the carrier says: what cannot be read leaves `base` as it was.
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
    // The API does not promise what the SDK's propagators do, which is to skip what they cannot read.
    return base;
  }
}

const mapGetter: TextMapGetter<ReadonlyMap<string, string>> = {
  keys: (pairs) => [...pairs.keys()],
  get: (pairs, key) => pairs.get(key),
};

/** The field of a request that holds its caller's carrier: a `map<string, string>` of this name. */
const carrierField = "trace_context";

/** The field in which the request of a streaming rpc wraps the one of its unary sibling, carrier and all. */
const wrapperField = "request";

/** The carrier in the body of one method's requests. */
export interface RequestCarrier {
  /** The carrier of a request; empty where the caller wrote none. */
  read(message: Message): Carrier;
  /** A copy of the request with this carrier, or the request itself where one is there already: its writer knew better. */
  write<Request extends Message>(message: Request, carrier: Carrier): Request;
}

/**
 * Where a method's requests carry the trace: the field `map<string, string> trace_context`, or that of the message in the field `request`.
 * Undefined where the contract has none, and for a stream of requests, which has many callers' moments and no one context.
 */
export function requestCarrierOf(method: DescMethod): RequestCarrier | undefined {
  if (!known.has(method)) {
    known.set(method, findCarrier(method));
  }
  return known.get(method);
}

/** By method, because every call asks. */
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

/** What a caller said about the trace. */
export interface CallerContext {
  /** Parent for the server's span: with a remote span in it, or without one, which makes a root. */
  readonly parent: Context;
  /** Links for the server's span. */
  readonly links: readonly Link[];
}

export interface CallerContextOptions {
  readonly propagator: TextMapPropagator;
  /** Headers of the call. */
  readonly header: Headers;
  readonly policy: RemoteParent;
  /** Carrier out of the request's body; who reads one trusts it. Where it names a valid parent, headers do not count. */
  readonly carrier?: Carrier;
}

/**
 * Finds the parent of a server's span: the first valid one of body carrier, headers (as the policy says), none. It starts from the
 * root context and not from the active one: with two services in one process, what is active is another service's span.
 */
export function readCallerContext({ propagator, header, policy, carrier }: CallerContextOptions): CallerContext {
  const base = carrier === undefined ? ROOT_CONTEXT : extractCarrier(propagator, carrier);
  if (trace.getSpanContext(base) !== undefined) {
    return { parent: base, links: [] };
  }
  return readRemoteParent(propagator, header, policy, base);
}
