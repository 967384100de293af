import type { DescMethod, Registry } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type Interceptor } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { parseContentType as parseGrpc } from "@connectrpc/connect/protocol-grpc";
import { type AccessControl, admitRequest, createAccessControl, reportForeignHost } from "../access/access-control.js";
import { foreignHostMessage, type HostCheck } from "../access/host-check.js";
import { canceled } from "../errors/errors.js";
import { type NodeHandler, type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import { collectRoutes, type MethodLimits } from "./collect-routes.js";
import { acceptCompression } from "./compressions.js";
import { applyCors, type CorsOptions, isOwnOrAllowedPage } from "./cors.js";
import { type HttpFront, receiveFrontCall } from "./http-front.js";
import { createFieldHintInterceptor, type JsonFieldHint } from "./json-field-hint.js";
import { onDisconnect } from "./node-request.js";
import { respondNotFound } from "./not-found.js";
import { createPaced } from "./paced.js";
import { markReached, readOneMessage, receiveCall, serveOneMessage, serveRequestStream } from "./received-call.js";
import { type BodyLimits, createBodyMemory } from "./request-body.js";
import { createUnaryGrpcHandler, type UnaryGrpcHandler } from "./unary-grpc.js";

export type { NodeHandler } from "../port/node-handler.js";

/** Options of {@link createConnectHandler}. */
export interface ConnectHandlerOptions {
  /** Registers the services. */
  readonly routes: (router: ConnectRouter) => void;
  /** Server interceptors, the outermost first. Not run for a unary call with an undecodable request. @default none */
  readonly interceptors?: readonly Interceptor[];
  /** Maximum request message, in bytes, compressed and decompressed; above: RESOURCE_EXHAUSTED. Default: 4,194,304. */
  readonly readMaxBytes?: number;
  /** Other limits than `readMaxBytes`, by method. Default: none. */
  readonly methodReadMaxBytes?: MethodLimits | undefined;
  /** Time limit for the body of a call with one request message, in milliseconds; then DEADLINE_EXCEEDED. Default: 60,000. */
  readonly bodyTimeoutMs?: number;
  /** Memory limit for all partially received bodies together, in bytes; above: RESOURCE_EXHAUSTED. Default: 67,108,864. */
  readonly bodyMemoryBytes?: number;
  /** Memory limit for the bodies of all running calls together, in bytes; above: RESOURCE_EXHAUSTED. Default: 134,217,728. */
  readonly heldBodyBytes?: number;
  /** HTTP APIs of other protocols over the same services. @default none */
  readonly fronts?: readonly HttpFront[] | undefined;
  /** Receives requests that a front rejected before they reached a service, and their status code. @default they are dropped */
  readonly onFrontRejected?: (front: string, code: Code) => void;
  /** Handler for paths that are neither RPC nor a front's. @default {@link respondNotFound} */
  readonly fallback?: NodeHandler;
  /**
   * Receives errors outside the interceptors: of fronts and the fallback, and of responses that could not be built or written. The path is
   * that of the RPC, the front's name, or `fallback`. Default: they are dropped.
   */
  readonly onInternalError?: (error: unknown, path: string) => void;
  /** Receives unary calls with undecodable requests, and their status code. @default they are dropped */
  readonly onUndecodable?: (method: DescMethod, code: Code) => void;
  /** Message types for `google.protobuf.Any` and extensions in JSON. @default none */
  readonly registry?: Registry | undefined;
  /** Whether to ignore unknown JSON fields; else they are INVALID_ARGUMENT. @default false */
  readonly ignoreUnknownFields?: boolean | undefined;
  /** Says what a field takes when a JSON value does not fit its type. @default Connect's message alone */
  readonly jsonFieldHint?: JsonFieldHint | undefined;
  /** Aborts the signals of all running calls with its reason. */
  readonly shutdownSignal?: AbortSignal;
  /** Access control, applied before a body is read, and not to the fallback. Default: all clients are admitted. */
  readonly accessControl?: AccessControl;
  /** Cross-origin access. Default: none. */
  readonly cors?: CorsOptions | undefined;
  /** Hosts whose pages may call, besides the origins of `cors`; other pages get 403. @default all */
  readonly pageHosts?: HostCheck | undefined;
}

/** Default time limit for a request's body, in milliseconds. */
export const defaultBodyTimeoutMs = 60_000;

/** Default memory limit for partially received bodies, in bytes. */
export const defaultBodyMemoryBytes = 67_108_864;

/** Default memory limit for the bodies of running calls, in bytes. */
export const defaultHeldBodyBytes = 134_217_728;

/**
 * Serve RPCs over gRPC, gRPC-Web and Connect on HTTP/1.1 and HTTP/2, by Connect's router.
 *
 * JSON responses have snake_case names and implicit fields; requests may use both spellings. Differences from Connect's adapter for Node:
 * access is checked before a body is read; bodies have a time limit and a shared memory limit; failed gRPC calls get a Trailers-Only
 * response; undecodable binary is INVALID_ARGUMENT; only POST is served (405 for other methods).
 */
export function createConnectHandler(options: ConnectHandlerOptions): NodeHandler {
  const { bodyTimeoutMs = defaultBodyTimeoutMs, readMaxBytes = 4_194_304, shutdownSignal, interceptors = [] } = options;
  const memory = createBodyMemory(
    options.bodyMemoryBytes ?? defaultBodyMemoryBytes,
    options.heldBodyBytes ?? defaultHeldBodyBytes,
  );
  const { methodReadMaxBytes = new Map() } = options;
  const limits: BodyLimits = { readMaxBytes, bodyTimeoutMs, memory };
  const limitsOf = (method: DescMethod): BodyLimits => ({
    ...limits,
    readMaxBytes: methodReadMaxBytes.get(method) ?? readMaxBytes,
  });
  const accessControl = options.accessControl ?? createAccessControl({});
  const {
    onInternalError = () => {},
    onUndecodable = () => {},
    onFrontRejected = () => {},
    fronts = [],
    pageHosts = () => true,
  } = options;
  const { jsonFieldHint: hintOf } = options;
  const routerOptions = {
    interceptors: [markReached, ...(hintOf ? [createFieldHintInterceptor(hintOf)] : []), ...interceptors],
    acceptCompression,
    readMaxBytes,
    jsonOptions: {
      useProtoFieldName: true,
      alwaysEmitImplicit: true,
      ignoreUnknownFields: options.ignoreUnknownFields ?? false,
      ...(options.registry && { registry: options.registry }),
    },
  };
  const { handlers, unary } = collectRoutes(options.routes, routerOptions, methodReadMaxBytes);
  const unaryGrpc = new Map<string, UnaryGrpcHandler>();
  for (const [path, spec] of unary) {
    unaryGrpc.set(
      path,
      createUnaryGrpcHandler(spec, { ...routerOptions, ...limitsOf(spec.method), interceptors, hintOf }),
    );
  }
  const fallback: NodeHandler = options.fallback ?? respondNotFound;
  /** Running calls. They share one abort listener, which is cheaper than one each. */
  const running = new Set<AbortController>();
  const paced = createPaced();
  shutdownSignal?.addEventListener("abort", () => {
    for (const abort of running) {
      abort.abort(shutdownSignal.reason);
    }
  });

  /** Controller of a call, aborted when the client disconnects or the server shuts down. Remove it from `running` at the end. */
  function beginCall(response: NodeResponse): AbortController {
    const abort = new AbortController();
    running.add(abort);
    onDisconnect(response, () =>
      paced(() => {
        if (running.has(abort)) {
          abort.abort(canceled());
        }
      }),
    );
    return abort;
  }

  async function serveFront(front: HttpFront, request: NodeRequest, response: NodeResponse): Promise<void> {
    const abort = beginCall(response);
    const { onEnd, end } = createCallEnd();
    const host = { routes: options.routes, interceptors, accessControl, limits, shutdownSignal, onEnd };
    try {
      const code = await front.handle(receiveFrontCall(front, { request, response }, abort.signal, host));
      if (code !== undefined) {
        onFrontRejected(front.name, code);
      }
    } catch (error) {
      endBroken(response, error);
      if (!(error instanceof ConnectError)) {
        onInternalError(error, front.name);
      }
    } finally {
      running.delete(abort);
      end();
      request.resume();
    }
  }

  async function serveRpc(handler: UniversalHandler, request: NodeRequest, response: NodeResponse): Promise<void> {
    const { method, requestPath } = handler;
    const abort = beginCall(response);
    const { onEnd, end } = createCallEnd();
    try {
      const call = receiveCall(request, response, {
        requestPath,
        abort,
        limits: limitsOf(method),
        admit() {
          const { typeName } = handler.service;
          const target = { method: `${typeName}/${method.name}` };
          const admitted = admitRequest(accessControl, request, typeName, target);
          onEnd(() => admitted.release());
          return admitted.caller;
        },
        onEnd,
      });
      const handleUnaryGrpc = "stream" in response && isGrpc(call.header) ? unaryGrpc.get(requestPath) : undefined;
      if (method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming") {
        await serveRequestStream(handler, call, paced);
        return;
      }
      const code =
        handleUnaryGrpc !== undefined && "stream" in response
          ? await handleUnaryGrpc({ ...call, body: readOneMessage(call) }, response)
          : await serveOneMessage(handler, call, { paced, jsonOptions: routerOptions.jsonOptions, hintOf });
      if (code !== undefined) {
        onUndecodable(method, code);
      }
    } catch (error) {
      endBroken(response, error);
      if (!(error instanceof ConnectError)) {
        onInternalError(error, requestPath);
      }
    } finally {
      running.delete(abort);
      end();
      // Discard the rest of a rejected body, which would block the connection for the next request.
      request.resume();
    }
  }

  return (request, response) => {
    if (applyCors(options.cors, request, response)) {
      return;
    }
    const path = request.url?.split("?", 1)[0] ?? "";
    const handler = handlers.get(path);
    const front = handler === undefined ? fronts.find((each) => each.serves(path, request)) : undefined;
    const isCall = handler !== undefined || front !== undefined;
    if (isCall && !isOwnOrAllowedPage(options.cors, pageHosts, request)) {
      const target = { method: handler && `${handler.service.typeName}/${handler.method.name}`, front: front?.name };
      reportForeignHost(accessControl, request, target);
      request.resume();
      return respondPlain(response, 403, foreignHostMessage);
    }
    if (handler === undefined) {
      if (front !== undefined) {
        return void serveFront(front, request, response);
      }
      try {
        return fallback(request, response);
      } catch (error) {
        endBroken(response, error);
        return onInternalError(error, "fallback");
      }
    }
    if (request.method !== "POST") {
      return respondPlain(response, 405, "RPCs require POST", { allow: "POST" });
    }
    const type = request.headers["content-type"];
    if (type === undefined || !handler.supportedContentType(type)) {
      request.resume();
      return respondPlain(response, 415, "unsupported content type for this RPC");
    }
    void serveRpc(handler, request, response);
  };
}

function isGrpc(header: Headers): boolean {
  return parseGrpc(header.get("content-type")) !== undefined;
}

/** What is released at a call's end. A body that nobody has awaited may be read later: its callback runs at once. */
function createCallEnd() {
  const callbacks: (() => void)[] = [];
  let hasEnded = false;
  return {
    onEnd(callback: () => void): void {
      if (hasEnded) {
        callback();
      } else {
        callbacks.push(callback);
      }
    },
    end(): void {
      hasEnded = true;
      for (const callback of callbacks) {
        callback();
      }
    },
  };
}

/** End a response that could not be built or written. After its headers are sent, it can only be cut off. */
function endBroken(response: NodeResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const isRejected = error instanceof ConnectError && error.code === Code.InvalidArgument;
  respondPlain(response, isRejected ? 400 : 500, isRejected ? error.rawMessage : "internal error");
}
