import { Code, ConnectError, type ConnectRouter, createConnectRouter, type Interceptor } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { callerContextKey, nobody } from "../access/callers.js";
import { createGate, type Entry, type Gate } from "../access/gate.js";
import { enterWith } from "../access/gate-handler.js";
import { type NodeHandler, type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import { createBodyMemory } from "./body-memory.js";
import { applyCors, type CorsOptions } from "./cors.js";
import { internalErrorInterceptor } from "./internal-errors.js";
import { compressions } from "./message-check.js";
import { refusalInterceptor } from "./refusal.js";
import { requestFormat } from "./request-format.js";
import { type ScreenLimits, screenRequest } from "./request-screen.js";
import { serverRequestFromNode } from "./server-request.js";
import { writeResponse } from "./write-response.js";

export type { NodeHandler } from "../port/node-handler.js";

/** Options of {@link createConnectHandler}. */
export interface ConnectHandlerOptions {
  /** Registers the services. */
  readonly routes: (router: ConnectRouter) => void;
  /**
   * Server interceptors, the outermost first. They see every RPC, also one that could not be read: it comes with an empty message, and
   * `next` rejects.
   */
  readonly interceptors?: readonly Interceptor[];
  /** Largest request message, in bytes, compressed and decompressed; above it RESOURCE_EXHAUSTED. Default: 4,194,304. */
  readonly readMaxBytes?: number;
  /** Time for the body of a call with one request message to arrive, in milliseconds; above it DEADLINE_EXCEEDED. Default: 60,000. */
  readonly bodyTimeoutMs?: number;
  /** Memory for request bodies that are still arriving, all together, in bytes; above it RESOURCE_EXHAUSTED. Default: 67,108,864. */
  readonly bodyMemoryBytes?: number;
  /** Answers requests whose path is no RPC's. Default: 404. */
  readonly fallback?: NodeHandler;
  /**
   * Gets what no interceptor sees: errors of the fallback, and of answers that could not be made or written. The path is that of the
   * RPC, or `fallback`. Default: they are dropped.
   */
  readonly onBroken?: (error: unknown, path: string) => void;
  /** Aborts the signal of every running call, with its own reason. */
  readonly shutdownSignal?: AbortSignal;
  /** Decides who may call, before a body is read. The fallback is not behind it. Default: anybody. */
  readonly gate?: Gate;
  /** Which other origins' pages may call. Default: none. */
  readonly cors?: CorsOptions;
}

/** Time for a body to arrive where nothing is said, in milliseconds. */
export const defaultBodyTimeoutMs = 60_000;

/** Memory for bodies that are arriving where nothing is said, in bytes. */
export const defaultBodyMemoryBytes = 67_108_864;

/**
 * Serves RPCs over gRPC, gRPC-Web and Connect, on HTTP/1.1 and HTTP/2, with JSON in the contract's spelling: snake_case and implicit
 * fields out; both spellings in, unknown fields ignored. Differences to Connect's own adapter: a failed gRPC call is answered
 * Trailers-Only, an unreadable request passes the interceptors and is not quoted, a client that leaves is CANCELED, and only POST is
 * served (405 for other methods).
 */
export function createConnectHandler(options: ConnectHandlerOptions): NodeHandler {
  const limits: ScreenLimits = {
    readMaxBytes: options.readMaxBytes ?? 4_194_304,
    bodyTimeoutMs: options.bodyTimeoutMs ?? defaultBodyTimeoutMs,
    memory: createBodyMemory(options.bodyMemoryBytes ?? defaultBodyMemoryBytes),
  };
  const gate = options.gate ?? createGate({});
  const onBroken = options.onBroken ?? (() => {});
  const router = createConnectRouter({
    // Twice: inside, so that interceptors see the client's error; outside, for what the interceptors themselves throw.
    interceptors: [
      internalErrorInterceptor,
      ...(options.interceptors ?? []),
      internalErrorInterceptor,
      refusalInterceptor,
    ],
    acceptCompression: [...compressions],
    readMaxBytes: limits.readMaxBytes,
    jsonOptions: { useProtoFieldName: true, alwaysEmitImplicit: true, ignoreUnknownFields: true },
    ...(options.shutdownSignal && { shutdownSignal: options.shutdownSignal }),
  });
  options.routes(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const fallback: NodeHandler = options.fallback ?? ((_, response) => respondPlain(response, 404, "not found"));

  async function serveRpc(handler: UniversalHandler, request: NodeRequest, response: NodeResponse): Promise<void> {
    let entry: Entry | undefined;
    try {
      const call = serverRequestFromNode(request, response);
      call.contextValues?.set(callerContextKey, nobody);
      const screened = await screenRequest(handler, call, limits, () => {
        entry = enterWith(gate, request, handler.service.typeName);
        call.contextValues?.set(callerContextKey, entry.caller);
      });
      await writeResponse(await handler(screened), response);
    } catch (error) {
      endBroken(response, error);
      if (!(error instanceof ConnectError)) {
        onBroken(error, handler.requestPath);
      }
    } finally {
      entry?.leave();
      // What is left of a body that was refused in its middle: unread, it would block the connection for the next request.
      request.resume();
    }
  }

  return (request, response) => {
    if (applyCors(options.cors, request, response)) {
      return;
    }
    const handler = handlers.get(request.url?.split("?", 1)[0] ?? "");
    if (handler === undefined) {
      try {
        return fallback(request, response);
      } catch (error) {
        endBroken(response, error);
        return onBroken(error, "fallback");
      }
    }
    if (request.method !== "POST") {
      return respondPlain(response, 405, "RPCs are called by POST", { allow: "POST" });
    }
    // Nothing runs for what names no protocol: nobody would ask who calls.
    if (requestFormat(handler.method, request.headers["content-type"] ?? null) === undefined) {
      request.resume();
      return respondPlain(response, 415, "the content type is none of this RPC's");
    }
    void serveRpc(handler, request, response);
  };
}

/** Ends a response that could not be made or written. Where headers are out, only cutting it off tells the client. */
function endBroken(response: NodeResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const refused = error instanceof ConnectError && error.code === Code.InvalidArgument;
  respondPlain(response, refused ? 400 : 500, refused ? error.rawMessage : "internal error");
}
