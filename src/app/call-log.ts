import type { DescService } from "@bufbuild/protobuf";
import type { Code, Interceptor } from "@connectrpc/connect";
import { context } from "@opentelemetry/api";
import type { Logger } from "pino";
import { callerOf } from "../mesh/access/callers.js";
import { hiddenCauseOf } from "../mesh/errors/errors.js";
import { bindIterable } from "../otelconnect/bind-iterable.js";
import { grpcStatusName, isErrorCode, leftCodeOf, messageForCallers, serverCodeOf } from "../otelconnect/errors.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import { traceFieldsOf } from "../trace/span-scope.js";

/** Options of {@link createCallLog}. */
export interface CallLogOptions {
  readonly logger: Pick<Logger, "debug" | "info" | "warn" | "error">;
  /** Services whose calls are told of at `info`; those of others, such as health checks, are at `debug`. */
  readonly services: readonly DescService[];
}

/** How a call ended; the code is undefined where it ended well. */
interface CallEnd {
  readonly code: Code | undefined;
  readonly error?: unknown;
}

/**
 * Interceptor that writes one line of a call when it has ended: `method`, `code`, `durationMs`, `caller` where it has a name, and the ids of
 * the span under {@link serverScope}. It is the one place where failed calls are told of: where the failure is the server's own and not the
 * caller's, the line is a warning with the words that the caller got (`reason`), and an error where there is a cause that only this process
 * knows (`err`). Nothing that a caller sent stands in the line. Put it first.
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
      const message = bindIterable(context.active(), () => response.message, {
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

/** What is told of a failure that is the server's own. */
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
