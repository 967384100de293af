import { type DescField, type DescMethod, fromJsonString, type JsonReadOptions } from "@bufbuild/protobuf";
import { isFieldError } from "@bufbuild/protobuf/reflect";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { invalidArgument } from "../errors/errors.js";

/** What a field takes, for the error of a JSON value that its type cannot hold; undefined: nothing to add. */
export type JsonFieldHint = (field: DescField) => string | undefined;

/** Append the hint for the field that an error names, if any. Connect's message comes first. */
export function withFieldHint(error: unknown, hintOf: JsonFieldHint): unknown {
  if (!(error instanceof ConnectError) || error.code !== Code.InvalidArgument) {
    return error;
  }
  const field = fieldOf(error);
  const hint = field && hintOf(field);
  return hint === undefined ? error : invalidArgument(`${error.rawMessage}; ${hint}`, error.cause);
}

/** The field at which protobuf's JSON parser stopped: a cause of its error. */
function fieldOf(error: Error): DescField | undefined {
  for (let cause: unknown = error.cause; cause instanceof Error; cause = cause.cause) {
    if (isFieldError(cause)) {
      const field = cause.field();
      return field.kind === "field" ? field : undefined;
    }
  }
  return undefined;
}

/** Interceptor that adds hints to the errors of streams, whose messages are decoded inside the interceptors. */
export function createFieldHintInterceptor(hintOf: JsonFieldHint): Interceptor {
  return (next) => (request) =>
    next(request.stream ? { ...request, message: withHints(request.message, hintOf) } : request);
}

async function* withHints<T>(messages: AsyncIterable<T>, hintOf: JsonFieldHint): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw withFieldHint(error, hintOf);
  }
}

/**
 * Find the error of a unary request that Connect could not decode, with its hint. Connect answers it without telling anybody, so the message
 * is decoded again.
 *
 * @returns undefined if there is no hint.
 */
export function undecodableField(
  { input }: DescMethod,
  json: Uint8Array,
  options: Partial<JsonReadOptions>,
  hintOf: JsonFieldHint,
): ConnectError | undefined {
  try {
    fromJsonString(input, Buffer.from(json).toString(), options);
    return undefined;
  } catch (thrown) {
    const error = ConnectError.from(thrown, Code.InvalidArgument);
    const explained = withFieldHint(error, hintOf);
    return explained instanceof ConnectError && explained !== error ? explained : undefined;
  }
}
