import type { DescMethod } from "@bufbuild/protobuf";
import { type Attributes, type Context, type Span, SpanKind, type Tracer } from "@opentelemetry/api";
import { serverCodeOf } from "../otelconnect/error-code.js";
import { grpcStatusName } from "../otelconnect/status-codes.js";
import { rpcStatusCode } from "./settle-span.js";
import { type InSpan, iterateWithSpan } from "./span-scope.js";

export interface ClientSpanOptions {
  /** Name of the span, such as `call-inference-worker`. */
  readonly name: string;
  readonly parent: Context;
  /** App id that is called. */
  readonly appId: string;
  /** The rpc that is called. */
  readonly method: DescMethod;
}

/**
 * Runs one call of another app that is answered with a stream in a CLIENT span with `app.id`, `rpc.system.name`, `rpc.method` and
 * `rpc.response.status_code`, which is `OK` or the name of the code the call failed with. Read it to its end: who leaves early has
 * cancelled the call.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/
 */
export function iterateWithClientSpan<T>(
  tracer: Tracer,
  options: ClientSpanOptions,
  call: InSpan<AsyncIterable<T>>,
): AsyncIterable<T> {
  return iterateWithSpan(tracer, options.name, spanOptions(options), (span, scope) =>
    withStatus(span, call(span, scope)),
  );
}

async function* withStatus<T>(span: Span, messages: AsyncIterable<T>): AsyncGenerator<T> {
  // Stays when the consumer leaves early: that is the one end that a generator is not told of.
  span.setAttribute(rpcStatusCode, "CANCELLED");
  try {
    yield* messages;
    span.setAttribute(rpcStatusCode, "OK");
  } catch (error) {
    span.setAttribute(rpcStatusCode, grpcStatusName(serverCodeOf(error)));
    throw error;
  }
}

/** What the CLIENT span of a call says of it from the beginning. */
export function clientAttributes(appId: string, method: DescMethod): Attributes {
  return {
    "app.id": appId,
    "rpc.system.name": "grpc",
    "rpc.method": `${method.parent.typeName}/${method.name}`,
  };
}

function spanOptions({ parent, appId, method }: ClientSpanOptions) {
  return { kind: SpanKind.CLIENT, parent, attributes: clientAttributes(appId, method) };
}
