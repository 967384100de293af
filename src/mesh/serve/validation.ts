import { create, type DescMessage, type DescService, type MessageShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator, type Validator, Violation, violationsToProto } from "@bufbuild/protovalidate";
import { Code, ConnectError, type Interceptor, type StreamRequest } from "@connectrpc/connect";
import { watchStream } from "../../otelconnect/watched-stream.js";
import { createConnectError, invalidArgument, toClientError } from "../errors/errors.js";
import { bodyFailure } from "./request-body.js";

/** Options of {@link createValidationInterceptor}. */
export interface ValidationOptions {
  /** Default: the process's validator of the standard rules. */
  readonly validator?: Validator;
  /** Services whose rules are compiled eagerly. Default: none; rules are compiled with the first call, which delays it. */
  readonly services?: readonly DescService[];
}

/** One for the process: to compile the standard rules takes some 200 ms of CPU time. It keeps no message. */
const standardValidator = createValidator();

/** Maximum violations listed, so that a hostile request cannot inflate the response. The others are counted. */
const maxListed = 20;

/**
 * Create a server interceptor that validates request messages by protovalidate and maps errors by {@link toClientError}. Put it last.
 *
 * A violated rule is INVALID_ARGUMENT with `buf.validate.Violations`, and a message with field path and rule. Neither quotes caller input;
 * field paths omit map keys. Streamed messages are validated as they arrive.
 */
export function createValidationInterceptor(options: ValidationOptions = {}): Interceptor {
  const { validator = standardValidator, services = [] } = options;
  for (const { input } of services.flatMap((service) => service.methods)) {
    validator.validate(input, create(input));
  }
  return (next) => async (request) => {
    const { method, signal } = request;
    try {
      if (!request.stream) {
        validate(validator, method.input, request.message);
        return await next(request);
      }
      const response = await next({ ...request, message: validated(validator, request) });
      const mapError = (error: unknown) => toClientError(error, signal);
      return response.stream ? { ...response, message: watchStream(response.message, { mapError }) } : response;
    } catch (error) {
      throw toClientError(error, signal);
    }
  };
}

async function* validated(
  validator: Validator,
  { method: { input }, message: messages, contextValues }: StreamRequest,
): AsyncGenerator<MessageShape<DescMessage>> {
  try {
    for await (const message of messages) {
      validate(validator, input, message);
      yield message;
    }
  } catch (error) {
    // Connect returns INTERNAL for undecodable binary, which is the client's error.
    const isUndecodable = error instanceof ConnectError && error.code === Code.Internal;
    throw isUndecodable && contextValues.get(bodyFailure) !== error ? invalidArgument(error.rawMessage, error) : error;
  }
}

function validate<Desc extends DescMessage>(validator: Validator, schema: Desc, message: MessageShape<Desc>): void {
  const result = validator.validate(schema, message);
  if (result.kind === "valid") {
    return;
  }
  // The rule itself is invalid: a bug of the contract, hidden from the caller.
  if (result.kind === "error") {
    throw result.error;
  }

  const violations = result.violations.slice(0, maxListed).map(withoutMapKeys);
  const [value, desc] = violationsToProto(violations);
  const texts = violations.slice(0, 3).map(describe);
  const more = result.violations.length - texts.length;
  throw createConnectError({
    code: Code.InvalidArgument,
    message: texts.join("; ") + (more > 0 ? `; and ${more} more` : ""),
    details: [{ desc, value }],
  });
}

function withoutMapKeys({ message, ruleId, field, rule, forKey }: Violation): Violation {
  return new Violation(
    message,
    ruleId,
    field.filter((element) => element.kind !== "map_sub"),
    rule,
    forKey,
  );
}

function describe({ field, forKey, message }: Violation): string {
  const path = pathToString(field);
  return path === "" ? message : `${path}${forKey ? " (key)" : ""}: ${message}`;
}
