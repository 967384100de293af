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
import { callerContextKey, nobody } from "../access/callers.js";
import { createGate, type Entry, enterWith, type Gate } from "../access/gate.js";
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
  /** Server interceptors, the outermost first. No interceptor sees a unary call whose request cannot be read. @default none */
  readonly interceptors?: readonly Interceptor[];
  /** Largest request message, in bytes, compressed and decompressed; above it RESOURCE_EXHAUSTED. Default: 4,194,304. */
  readonly readMaxBytes?: number;
  /** Time for the body of a call with one request message to arrive, in milliseconds; above it DEADLINE_EXCEEDED. Default: 60,000. */
  readonly bodyTimeoutMs?: number;
  /** Memory for request bodies that are still arriving, all together, in bytes; above it RESOURCE_EXHAUSTED. Default: 67,108,864. */
  readonly bodyMemoryBytes?: number;
  /** Answers requests whose path is no RPC's. @default {@link respondNotFound} */
  readonly fallback?: NodeHandler;
  /**
   * Gets what no interceptor sees: errors of the fallback, and of answers that could not be made or written. The path is that of the
   * RPC, or `fallback`. Default: they are dropped.
   */
  readonly onBroken?: (error: unknown, path: string) => void;
  /** Gets the unary calls that no interceptor sees, with the code that they were answered with. @default they are dropped */
  readonly onUnread?: (method: DescMethod, code: Code) => void;
  /** Types of the messages inside `google.protobuf.Any`, and of extensions, in JSON. @default none */
  readonly registry?: Registry | undefined;
  /** Whether JSON fields that the contract does not have are ignored; else they are INVALID_ARGUMENT. @default false */
  readonly ignoreUnknownFields?: boolean | undefined;
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

/** Compressions that servers accept and offer. */
const acceptCompression = [compressionGzip, compressionBrotli];

/**
 * Serves RPCs over gRPC, gRPC-Web and Connect, on HTTP/1.1 and HTTP/2, with JSON in the contract's spelling: snake_case and implicit
 * fields out; both spellings in. Connect's router reads and answers. Differences to Connect's own adapter for Node: access is checked
 * before a body is read; bodies have a time limit and a shared limit of memory; a failed gRPC call is answered Trailers-Only; binary that
 * cannot be decoded is INVALID_ARGUMENT; only POST is served (405 for other methods).
 */
export function createConnectHandler(options: ConnectHandlerOptions): NodeHandler {
  const { bodyTimeoutMs = defaultBodyTimeoutMs, readMaxBytes = 4_194_304, shutdownSignal, interceptors = [] } = options;
  const memory = createBodyMemory(options.bodyMemoryBytes ?? defaultBodyMemoryBytes);
  const limits: BodyLimits = { readMaxBytes, bodyTimeoutMs, memory };
  const gate = options.gate ?? createGate({});
  const { onBroken = () => {}, onUnread = () => {} } = options;
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
  /** The calls that run; one listener for all of them, because each would take longer to add and to remove. */
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
    let entry: Entry | undefined;
    try {
      const url = requestUrl(request, requestPath);
      const header = requestHeaders(request);
      const contextValues = createContextValues();
      contextValues.set(callerContextKey, nobody);
      const admit = () => {
        entry = enterWith(gate, request, handler.service.typeName);
        contextValues.set(callerContextKey, entry.caller);
      };
      const handleUnaryGrpc = "stream" in response && isGrpc(header) ? unaryGrpc.get(requestPath) : undefined;
      const timeoutMs = limitTimeout(header) ?? bodyTimeoutMs;
      contextValues.set(isServerTime, true);
      const bodyLimits = { ...limits, bodyTimeoutMs: Math.min(bodyTimeoutMs, timeoutMs) };
      if (method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming") {
        const body = notingFailure(
          guarded(admit, () => readEnvelopes(request, limits, header)),
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
          // Whoever may not call learns nothing of limits: Connect compares the length that is announced with its own.
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
      // A request that is rejected for its headers is answered without its body.
      body.catch(() => {});
      const call: ServerCall = { url, header, contextValues, body, abort };
      const code =
        handleUnaryGrpc !== undefined && "stream" in response
          ? await handleUnaryGrpc(call, response)
          : await serveRead(handler, request.httpVersion, { ...call, paced }, response);
      if (code !== undefined) {
        onUnread(method, code);
      }
    } catch (error) {
      endBroken(response, error);
      if (!(error instanceof ConnectError)) {
        onBroken(error, requestPath);
      }
    } finally {
      running.delete(abort);
      entry?.leave();
      // What is left of a body that was rejected in its middle: unread, it would block the connection for the next request.
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
        return onBroken(error, "fallback");
      }
    }
    if (request.method !== "POST") {
      return respondPlain(response, 405, "RPCs are called by POST", { allow: "POST" });
    }
    const type = request.headers["content-type"];
    if (type === undefined || !handler.supportedContentType(type)) {
      request.resume();
      return respondPlain(response, 415, "the content type is none of this RPC's");
    }
    void serveRpc(handler, request, response);
  };
}

/** Answers a call with one request message by Connect's handler. Resolves with the code of a unary one that reached no interceptor. */
async function serveRead(
  handler: UniversalHandler,
  httpVersion: string,
  { abort, paced, ...call }: ServerCall & { readonly paced: Paced },
  response: NodeResponse,
): Promise<Code | undefined> {
  const { contextValues } = call;
  const request = { ...call, httpVersion, method: "POST", signal: abort.signal };
  const answered = await handler({ ...request, body: notingFailure(oneChunk(call.body), contextValues) });
  if (handler.method.methodKind !== "unary" || contextValues.get(reached)) {
    await writeResponse(answered, response, paced, abort.signal);
    return undefined;
  }
  const inspected = await inspectResponse(answered);
  if (inspected.code !== Code.Internal || contextValues.get(bodyFailure) !== undefined) {
    await writeResponse(inspected.response, response);
    return inspected.code;
  }
  // Connect calls binary that cannot be decoded INTERNAL; it is the sender's fault. Asked again, Connect answers that in the protocol.
  const error = invalidArgument(`the request cannot be decoded as ${handler.method.input.typeName}`);
  await writeResponse(await handler({ ...request, body: failing(error) }), response);
  return error.code;
}

/** Whether a call got as far as the interceptors. */
const reached = createContextKey(false, { description: "reached the interceptors" });

const markReached: Interceptor = (next) => (request) => {
  request.contextValues.set(reached, true);
  return next(request);
};

/**
 * Answers a request for what is not served: 404, or UNIMPLEMENTED to gRPC, because HTTP 404 would be an error of a proxy to gRPC clients and
 * to load balancers.
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

/** Registers the routes with Connect's router, and keeps the unary implementations as well, by path. */
function collectRoutes(routes: (router: ConnectRouter) => void, options: Parameters<typeof createConnectRouter>[0]) {
  const router = createConnectRouter(options);
  const unary = new Map<string, UnarySpec>();
  const collecting: ConnectRouter = {
    handlers: router.handlers,
    service(service, implementation, own) {
      router.service(service, implementation, own);
      // What has options of its own is Connect's alone.
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

/** gRPC, gRPC-Web and Connect's streaming calls put an envelope around each message. */
function isEnveloped(header: Headers): boolean {
  return /^application\/(grpc|connect\+)/i.test(header.get("content-type") ?? "");
}

/** A body whose reading waits for the access check, which may throw the error to answer with. */
async function* guarded(admit: () => void, read: () => AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  admit();
  yield* read();
}

/** Lets the interceptors tell a body that failed from messages that cannot be decoded. */
async function* notingFailure(body: AsyncIterable<Uint8Array>, values: ContextValues): AsyncGenerator<Uint8Array> {
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

/** Ends a response that could not be made or written. Where headers are out, only cutting it off tells the client. */
function endBroken(response: NodeResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const isRejected = error instanceof ConnectError && error.code === Code.InvalidArgument;
  respondPlain(response, isRejected ? 400 : 500, isRejected ? error.rawMessage : "internal error");
}
