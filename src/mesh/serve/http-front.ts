import {
  type Code,
  type ConnectRouter,
  createContextKey,
  createRouterTransport,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import {
  type AccessControl,
  type AdmittedCall,
  admitRequest,
  identifyRequest,
  reportForeignHost,
} from "../access/access-control.js";
import { type Caller, callerContextKey } from "../access/callers.js";
import type { NodeRequest, NodeResponse } from "../port/node-handler.js";
import { isClosed, requestHeaders, requestUrl } from "./node-request.js";
import { type BodyLimits, readBody } from "./request-body.js";

/** Another protocol's HTTP API over the services of the same port, such as OpenAI's. It only translates. */
export interface HttpFront {
  /** Name in spans and logs: `openai`. */
  readonly name: string;
  /** Whether a request is the front's, by its path, method and headers. RPCs of the server's own services never are. */
  serves(path: string, request: NodeRequest): boolean;
  /**
   * Serves a request and always ends its response.
   *
   * @returns the code of a request that was rejected before it reached a service, for log and metrics.
   */
  handle(call: FrontCall): Promise<Code | undefined>;
}

/** An HTTP request to a front. Nobody is admitted and no body is read yet. */
export interface FrontCall {
  readonly request: NodeRequest;
  readonly response: NodeResponse;
  /** Path without the query. */
  readonly path: string;
  readonly header: Headers;
  /** Aborted when the client disconnects or the server shuts down. */
  readonly signal: AbortSignal;
  /**
   * Admits one call of the client, with a token of its rate and a slot of its concurrency. Release it when the call ends.
   *
   * @throws ConnectError UNAUTHENTICATED, PERMISSION_DENIED, or RESOURCE_EXHAUSTED with RetryInfo.
   */
  admit(): AdmittedCall;
  /**
   * Admits a poll of the client, without a token of its rate and a slot of its concurrency: the front limits polls itself.
   *
   * @throws ConnectError UNAUTHENTICATED or PERMISSION_DENIED.
   */
  admitPoll(): Caller;
  /** Reports a request of a web page that may not call to the server's log of rejected access. */
  reportForeignPage(): void;
  /**
   * Reads the body within the limits of RPCs.
   *
   * @param maxBytes of this body. @default that of an RPC's message
   * @throws ConnectError RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED or CANCELLED
   */
  readBody(maxBytes?: number): Promise<Uint8Array>;
  /** Calls the services in memory for an admitted caller, through the same interceptors as from outside. */
  transport(caller: Caller): Transport;
}

/** What calls of fronts need of the server. */
export interface FrontHost {
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  readonly accessControl: AccessControl;
  readonly limits: BodyLimits;
  readonly shutdownSignal: AbortSignal | undefined;
  /** Receives what is to run when the call has ended. */
  readonly onEnd: (callback: () => void) => void;
}

/** Context key of the front that a call came through; undefined for RPCs. */
export const frontName = createContextKey<string | undefined>(undefined, { description: "front" });

/** @throws ConnectError INVALID_ARGUMENT if the host or a header is invalid. */
export function receiveFrontCall(
  front: HttpFront,
  { request, response }: Pick<FrontCall, "request" | "response">,
  signal: AbortSignal,
  host: FrontHost,
): FrontCall {
  const path = request.url?.split("?", 1)[0] ?? "";
  const url = requestUrl(request, path);
  const target = { front: front.name };
  return {
    request,
    response,
    path,
    header: requestHeaders(request),
    signal,
    admit: () => admitRequest(host.accessControl, request, undefined, target),
    admitPoll: () => identifyRequest(host.accessControl, request, target),
    reportForeignPage: () => reportForeignHost(host.accessControl, request, target),
    async readBody(maxBytes = host.limits.readMaxBytes) {
      const limits = { ...host.limits, readMaxBytes: maxBytes };
      const body = await readBody(request, limits, false, () => isClosed(response));
      host.onEnd(limits.memory.hold(body.byteLength));
      return body;
    },
    transport(caller) {
      const identify: Interceptor = (next) => (call) => {
        call.contextValues.set(callerContextKey, caller).set(frontName, front.name);
        return next(call);
      };
      return createRouterTransport(host.routes, {
        router: {
          // In memory, only Connect is spoken: handlers of the others would be most of the memory of a call.
          grpc: false,
          grpcWeb: false,
          interceptors: [identify, ...host.interceptors],
          ...(host.shutdownSignal && { shutdownSignal: host.shutdownSignal }),
        },
        // URLs in answers have the client's own origin.
        transport: { baseUrl: new URL(url).origin },
      });
    },
  };
}
