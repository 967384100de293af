import type { DescMethod, Registry } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ContextValues,
  createConnectRouter,
  createContextKey,
  createContextValues,
  createServiceImplSpec,
  type Interceptor,
  type MethodImplSpec,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { parseContentType as parseGrpc } from "@connectrpc/connect/protocol-grpc";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { type AccessControl, type AdmittedCall, admitRequest, createAccessControl } from "../access/access-control.js";
import { anonymousCaller, callerContextKey } from "../access/callers.js";
import { canceled, invalidArgument } from "../errors/errors.js";
import { type NodeHandler, type NodeRequest, type NodeResponse, respondPlain } from "../port/node-handler.js";
import { applyCors, type CorsOptions } from "./cors.js";
import { onDisconnect, requestHeaders, requestUrl } from "./node-request.js";
import { createPaced, type Paced } from "./paced.js";
import {
  type BodyLimits,
  bodyFailure,
  checkEncoding,
  createBodyMemory,
  readBody,
  readEnvelopes,
} from "./request-body.js";
import { isServerTime, limitTimeout } from "./server-deadline.js";
import { createUnaryGrpcHandler, type ServerCall, type UnaryGrpcHandler } from "./unary-grpc.js";
import { inspectResponse } from "./undecodable.js";
import { respondFailure, writeResponse } from "./write-response.js";

export type { NodeHandler } from "../port/node-handler.js";

/** Options of {@link createConnectHandler}. */
export interface ConnectHandlerOptions {
  /** Registers the services. */
  readonly routes: (router: ConnectRouter) => void;
  /** Server interceptors, the outermost first. Not run for a unary call with an undecodable request. @default none */
  readonly interceptors?: readonly Interceptor[];
  /** Maximum request message, in bytes, compressed and decompressed; above: RESOURCE_EXHAUSTED. Default: 4,194,304. */
  readonly readMaxBytes?: number;
  /** Time limit for the body of a call with one request message, in milliseconds; then DEADLINE_EXCEEDED. Default: 60,000. */
  readonly bodyTimeoutMs?: number;
  /** Memory limit for all partially received bodies together, in bytes; above: RESOURCE_EXHAUSTED. Default: 67,108,864. */
  readonly bodyMemoryBytes?: number;
  /** Handler for paths that are no RPC. @default {@link respondNotFound} */
  readonly fallback?: NodeHandler;
  /**
   * Receives errors outside the interceptors: of the fallback, and of responses that could not be built or written. The path is that of the
   * RPC, or `fallback`. Default: they are dropped.
   */
  readonly onInternalError?: (error: unknown, path: string) => void;
  /** Receives unary calls with undecodable requests, and their status code. @default they are dropped */
  readonly onUndecodable?: (method: DescMethod, code: Code) => void;
  /** Message types for `google.protobuf.Any` and extensions in JSON. @default none */
  readonly registry?: Registry | undefined;
  /** Whether to ignore unknown JSON fields; else they are INVALID_ARGUMENT. @default false */
  readonly ignoreUnknownFields?: boolean | undefined;
  /** Aborts the signals of all running calls with its reason. */
  readonly shutdownSignal?: AbortSignal;
  /** Access control, applied before a body is read, and not to the fallback. Default: all clients are admitted. */
  readonly accessControl?: AccessControl;
  /** Cross-origin access. Default: none. */
  readonly cors?: CorsOptions;
}

/** Default time limit for a request's body, in milliseconds. */
export const defaultBodyTimeoutMs = 60_000;

/** Default memory limit for partially received bodies, in bytes. */
export const defaultBodyMemoryBytes = 67_108_864;

/** Compressions for requests and responses. */
const acceptCompression = [compressionGzip, compressionBrotli];

/**
 * Serve RPCs over gRPC, gRPC-Web and Connect on HTTP/1.1 and HTTP/2, by Connect's router.
 *
 * JSON responses have snake_case names and implicit fields; requests may use both spellings. Differences from Connect's adapter for Node:
 * access is checked before a body is read; bodies have a time limit and a shared memory limit; failed gRPC calls get a Trailers-Only
 * response; undecodable binary is INVALID_ARGUMENT; only POST is served (405 for other methods).
 */
export function createConnectHandler(options: ConnectHandlerOptions): NodeHandler {
  const { bodyTimeoutMs = defaultBodyTimeoutMs, readMaxBytes = 4_194_304, shutdownSignal, interceptors = [] } = options;
  const memory = createBodyMemory(options.bodyMemoryBytes ?? defaultBodyMemoryBytes);
  const limits: BodyLimits = { readMaxBytes, bodyTimeoutMs, memory };
  const accessControl = options.accessControl ?? createAccessControl({});
  const { onInternalError = () => {}, onUndecodable = () => {} } = options;
  const routerOptions = {
    interceptors: [markReached, ...interceptors],
    acceptCompression,
    readMaxBytes,
    jsonOptions: {
      useProtoFieldName: true,
      alwaysEmitImplicit: true,
      ignoreUnknownFields: options.ignoreUnknownFields ?? false,
      ...(options.registry && { registry: options.registry }),
    },
  };
  const { handlers, unary } = collectRoutes(options.routes, routerOptions);
  const unaryGrpc = new Map<string, UnaryGrpcHandler>();
  for (const [path, spec] of unary) {
    unaryGrpc.set(path, createUnaryGrpcHandler(spec, { ...routerOptions, interceptors }));
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

  async function serveRpc(handler: UniversalHandler, request: NodeRequest, response: NodeResponse): Promise<void> {
    const { method, requestPath } = handler;
    const abort = new AbortController();
    running.add(abort);
    onDisconnect(response, () =>
      paced(() => {
        if (running.has(abort)) {
          abort.abort(canceled());
        }
      }),
    );
    let admitted: AdmittedCall | undefined;
    try {
      const url = requestUrl(request, requestPath);
      const header = requestHeaders(request);
      const contextValues = createContextValues();
      contextValues.set(callerContextKey, anonymousCaller);
      const admit = () => {
        admitted = admitRequest(accessControl, request, handler.service.typeName);
        contextValues.set(callerContextKey, admitted.caller);
      };
      const handleUnaryGrpc = "stream" in response && isGrpc(header) ? unaryGrpc.get(requestPath) : undefined;
      const timeoutMs = limitTimeout(header) ?? bodyTimeoutMs;
      contextValues.set(isServerTime, true);
      const bodyLimits = { ...limits, bodyTimeoutMs: Math.min(bodyTimeoutMs, timeoutMs) };
      if (method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming") {
        const body = recordingFailure(
          afterAdmission(admit, () => readEnvelopes(request, limits, header)),
          contextValues,
        );
        const call = {
          httpVersion: request.httpVersion,
          method: "POST",
          url,
          header,
          contextValues,
          signal: abort.signal,
        };
        return await writeResponse(await handler({ ...call, body }), response, paced, abort.signal);
      }
      const read = async () => {
        try {
          admit();
        } catch (error) {
          // Connect would compare the announced length with the limit and reveal it to an unauthorized client.
          header.delete("content-length");
          throw error;
        }
        const bytes = await readBody(request, bodyLimits, isEnveloped(header));
        if (isEnveloped(header)) {
          checkEncoding(bytes[0] ?? 0, header);
        }
        return bytes;
      };
      const body = read();
      // A request rejected for its headers never awaits its body.
      body.catch(() => {});
      const call: ServerCall = { url, header, contextValues, body, abort };
      const code =
        handleUnaryGrpc !== undefined && "stream" in response
          ? await handleUnaryGrpc(call, response)
          : await serveRead(handler, request.httpVersion, { ...call, paced }, response);
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
      admitted?.release();
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
    if (handler === undefined) {
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

/** Serve a call with one request message by Connect's handler. Resolves with the code if no interceptor ran. */
async function serveRead(
  handler: UniversalHandler,
  httpVersion: string,
  { abort, paced, ...call }: ServerCall & { readonly paced: Paced },
  response: NodeResponse,
): Promise<Code | undefined> {
  const { contextValues } = call;
  const request = { ...call, httpVersion, method: "POST", signal: abort.signal };
  const answered = await handler({ ...request, body: recordingFailure(oneChunk(call.body), contextValues) });
  if (handler.method.methodKind !== "unary" || contextValues.get(reached)) {
    await writeResponse(answered, response, paced, abort.signal);
    return undefined;
  }
  const inspected = await inspectResponse(answered);
  if (inspected.code !== Code.Internal || contextValues.get(bodyFailure) !== undefined) {
    await writeResponse(inspected.response, response);
    return inspected.code;
  }
  // Connect returns INTERNAL for undecodable binary, which is the client's error. A second pass writes the error in the call's protocol.
  const error = invalidArgument(`the request cannot be decoded as ${handler.method.input.typeName}`);
  await writeResponse(await handler({ ...request, body: failing(error) }), response);
  return error.code;
}

/** Whether a call has reached the interceptors. */
const reached = createContextKey(false, { description: "reached the interceptors" });

const markReached: Interceptor = (next) => (request) => {
  request.contextValues.set(reached, true);
  return next(request);
};

/**
 * Answer 404, or UNIMPLEMENTED for gRPC, because gRPC clients and load balancers treat HTTP 404 as a proxy's error.
 */
export function respondNotFound(request: NodeRequest, response: NodeResponse): void {
  if ("stream" in response && parseGrpc(request.headers["content-type"] ?? null) !== undefined) {
    request.resume();
    respondFailure(new Headers({ "content-type": "application/grpc" }), unimplemented, response);
    return;
  }
  respondPlain(response, 404, "not found");
}

const unimplemented = new Headers({
  "grpc-status": String(Code.Unimplemented),
  "grpc-message": "unknown service or method",
});

type UnarySpec = Extract<MethodImplSpec, { readonly kind: "unary" }>;

/** Register the routes with Connect's router, and collect the unary implementations by path. */
function collectRoutes(routes: (router: ConnectRouter) => void, options: Parameters<typeof createConnectRouter>[0]) {
  const router = createConnectRouter(options);
  const unary = new Map<string, UnarySpec>();
  const collecting: ConnectRouter = {
    handlers: router.handlers,
    service(service, implementation, own) {
      router.service(service, implementation, own);
      // Services with their own options are served by Connect only.
      for (const spec of own === undefined
        ? Object.values(createServiceImplSpec(service, implementation).methods)
        : []) {
        if (spec.kind === "unary") {
          unary.set(`/${service.typeName}/${spec.method.name}`, spec);
        }
      }
      return this;
    },
    rpc(method, implementation, own) {
      router.rpc(method, implementation, own);
      return this;
    },
  };
  routes(collecting);
  return { handlers: new Map(router.handlers.map((handler) => [handler.requestPath, handler])), unary };
}

function isGrpc(header: Headers): boolean {
  return parseGrpc(header.get("content-type")) !== undefined;
}

/** Whether messages have envelopes: gRPC, gRPC-Web and Connect's streaming calls. */
function isEnveloped(header: Headers): boolean {
  return /^application\/(grpc|connect\+)/i.test(header.get("content-type") ?? "");
}

/** Body that is read after the access check, which may throw. */
async function* afterAdmission(admit: () => void, read: () => AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  admit();
  yield* read();
}

/** Record a body's failure, so that interceptors can distinguish it from an undecodable message. */
async function* recordingFailure(body: AsyncIterable<Uint8Array>, values: ContextValues): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    values.set(bodyFailure, error);
    throw error;
  }
}

async function* oneChunk(body: Promise<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield await body;
}

async function* failing(error: ConnectError): AsyncGenerator<Uint8Array> {
  yield await Promise.reject(error);
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
