import type { DescService } from "@bufbuild/protobuf";
import {
  type Code,
  type ContextKey,
  createContextKey,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import type { Logger } from "pino";
import { callerOf } from "../mesh/access/callers.js";
import { hiddenCauseOf } from "../mesh/errors/errors.js";
import { grpcStatusName, isErrorCode, leftCodeOf, messageForCallers, serverCodeOf } from "../otelconnect/errors.js";
import { watchStream } from "../otelconnect/watched-stream.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import { traceFieldsOf } from "../trace/span-scope.js";

/**
 * Fields that a handler adds to the line of its call with {@link addLogFields}. Never the prompt or other text of the request.
 *
 * A new field is added here and to the table in docs/logs.md.
 */
export interface CallLogFields {
  /** App id of the worker that the pipeline called. */
  readonly workerApp?: string;
  /** Name of the worker's model, as in the span attribute `model.name`. */
  readonly model?: string;
  /** Front that the call came through, such as `openai`. */
  readonly front?: string;
}

const callLogFields: ContextKey<CallLogFields> = createContextKey({}, { description: "fields of the call's log line" });

/** Add fields to the log line of a call. A later value of a field replaces the earlier one. */
export function addLogFields({ values }: Pick<HandlerContext, "values">, fields: CallLogFields): void {
  values.set(callLogFields, { ...values.get(callLogFields), ...fields });
}

/** Options of {@link createCallLog}. */
export interface CallLogOptions {
  readonly logger: Pick<Logger, "debug" | "info" | "warn" | "error">;
  /** Services whose calls are logged at `info`. Calls of other services, such as health checks, are logged at `debug`. */
  readonly services: readonly DescService[];
}

/** Result of a call; `code` is undefined on success. */
interface CallEnd {
  readonly code: Code | undefined;
  readonly error?: unknown;
}

/**
 * Interceptor that logs one line per finished call. Put it first.
 *
 * - Fields: `method`, `code`, `durationMs`, `caller` if it has a name, those of {@link CallLogFields}, and the ids of the span under
 *   {@link serverScope}.
 * - Level: `warn` for a server error, with the message sent to the caller as `reason`; `error` if the error has a cause that was not
 *   sent to the caller, with that cause as `err`.
 * - No line contains data from the request. No other code logs failed calls.
 */
export function createCallLog({ logger, services }: CallLogOptions): Interceptor {
  const own = new Set(services.map((service) => service.typeName));
  return (next) => async (request) => {
    const { service, method, contextValues, signal } = request;
    const startedAt = performance.now();
    const end = ({ code, error }: CallEnd) => {
      const failure = code !== undefined && isErrorCode("server", code) ? failureFields(error) : undefined;
      const level = failure === undefined ? (own.has(service.typeName) ? "info" : "debug") : levelOf(failure);
      const { name: caller } = callerOf({ values: contextValues });
      const fields = {
        method: `${service.typeName}/${method.name}`,
        code: code === undefined ? "OK" : grpcStatusName(code),
        durationMs: Math.round((performance.now() - startedAt) * 10) / 10,
        ...(caller !== undefined && { caller }),
        ...contextValues.get(callLogFields),
        ...traceFieldsOf(contextValues.get(serverScope)),
        ...failure,
      };
      logger[level](fields, code === undefined ? "call answered" : "call failed");
    };
    try {
      const response = await next(request);
      if (!response.stream) {
        end({ code: undefined });
        return response;
      }
      const message = watchStream(response.message, {
        done: () => end({ code: undefined }),
        failed: (error) => end({ code: serverCodeOf(error, signal), error }),
        left: () => end({ code: leftCodeOf(signal) }),
      });
      return { ...response, message };
    } catch (error) {
      end({ code: serverCodeOf(error, signal), error });
      throw error;
    }
  };
}

/** Log fields of a server error. */
interface FailureFields {
  readonly reason?: string;
  readonly err?: unknown;
}

function levelOf({ err }: FailureFields): "warn" | "error" {
  return err === undefined ? "warn" : "error";
}

function failureFields(error: unknown): FailureFields {
  const reason = messageForCallers(error);
  const err = hiddenCauseOf(error);
  return { ...(reason !== undefined && { reason }), ...(err !== undefined && { err }) };
}
