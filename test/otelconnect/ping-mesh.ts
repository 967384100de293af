import { createServer as createHttp1Server } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import type { Server } from "node:net";
import type { TestContext } from "node:test";
import {
  type Client,
  type ConnectRouter,
  createClient,
  createRouterTransport,
  type Interceptor,
  type ServiceImpl,
  type Transport,
} from "@connectrpc/connect";
import {
  connectNodeAdapter,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import {
  type ClientInterceptorOptions,
  createClientInterceptor,
  createServerInterceptor,
  type ServerInterceptorOptions,
} from "../../src/otelconnect/otelconnect.js";
import { createSpanCollector, type SpanCollector } from "../../src/trace/telemetry/collectors.js";
import { dumpSpans } from "../support/dump-spans.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { testTelemetry } from "../support/telemetry.js";
import { PingService } from "./ping-service.js";

/** In memory, or a protocol on a real port. */
export type Wire = "memory" | "grpc" | "grpc-web" | "connect";

export interface PingMeshOptions {
  readonly wire?: Wire;
  /** A server of the test's own. */
  readonly baseUrl?: string;
  readonly client?: ClientInterceptorOptions;
  readonly server?: ServerInterceptorOptions;
  /** Interceptors behind the server's. */
  readonly serverInterceptors?: readonly Interceptor[];
  /** Interceptors behind the client's. */
  readonly clientInterceptors?: readonly Interceptor[];
}

export interface PingMesh {
  readonly client: Client<typeof PingService>;
  /** Spans of both ends. */
  readonly collector: SpanCollector;
  /** Empty in memory. */
  readonly baseUrl: string;
  /** All spans as text, once there are that many. */
  dump(count: number): Promise<string>;
}

/** A client and a server, each with its interceptor and a tracer of its own. The server trusts remote parents by default. */
export async function pingMesh(
  t: TestContext,
  implementation: Partial<ServiceImpl<typeof PingService>>,
  options: PingMeshOptions = {},
): Promise<PingMesh> {
  const { wire = "memory" } = options;
  const collector = createSpanCollector();
  const caller = testTelemetry(t, "caller", { collector });
  const callee = testTelemetry(t, "callee", { collector });
  const routes = (router: ConnectRouter) => void router.service(PingService, implementation);
  const interceptors = [
    createServerInterceptor({
      tracer: callee.tracer,
      propagator: callee.propagator,
      remoteParent: "trust",
      nestInActiveSpan: false,
      ...options.server,
    }),
    ...(options.serverInterceptors ?? []),
  ];
  const outgoing = [
    createClientInterceptor({ tracer: caller.tracer, propagator: caller.propagator, ...options.client }),
    ...(options.clientInterceptors ?? []),
  ];
  const baseUrl = options.baseUrl ?? (wire === "memory" ? "" : await serve(t, wire, routes, interceptors));
  const transport =
    wire === "memory"
      ? createRouterTransport(routes, { router: { interceptors }, transport: { interceptors: outgoing } })
      : transportOf(wire, baseUrl, outgoing);
  return {
    client: createClient(PingService, transport),
    collector,
    baseUrl,
    async dump(count) {
      const spans = await collector.waitFor((all) => all.length >= count, AbortSignal.timeout(30_000));
      return dumpSpans(spans, { mask: ["server.port"] });
    },
  };
}

async function serve(
  t: TestContext,
  wire: Wire,
  routes: (router: ConnectRouter) => void,
  interceptors: Interceptor[],
): Promise<string> {
  const handler = connectNodeAdapter({ routes, interceptors });
  const server: Server = wire === "connect" ? createHttp1Server(handler) : createHttp2Server(handler);
  return (await listenOnLoopback(t, server)).url;
}

function transportOf(wire: Exclude<Wire, "memory">, baseUrl: string, interceptors: Interceptor[]): Transport {
  switch (wire) {
    case "grpc":
      return createGrpcTransport({ baseUrl, interceptors });
    case "grpc-web":
      return createGrpcWebTransport({ baseUrl, httpVersion: "2", interceptors });
    case "connect":
      return createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors });
  }
}
