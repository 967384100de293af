import {
  create,
  type DescField,
  type DescMessage,
  type DescMethod,
  isMessage,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import type { Carrier } from "./carrier.js";

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
