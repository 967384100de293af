import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { App } from "../app/create-app.js";
import type { Connection } from "../mesh/grpc/connection.js";

/** `memory`: calls in memory, over the Connect protocol; `port`: gRPC on free loopback ports. */
export type Wire = "memory" | "port";

/** An app running in this process, with a transport to it. */
export interface StartedApp {
  readonly transport: Transport;
  /** Creates a transport with client interceptors. Undefined for wire `port`. */
  readonly connect?: ((interceptors: readonly Interceptor[]) => Transport) | undefined;
  readonly url: string;
  /** gRPC target; a placeholder for wire `memory`. */
  readonly target: string;
  /** Stops the app but keeps the transport open. */
  end(): Promise<void>;
  /** Stops the app and closes the transport. */
  stop(): Promise<void>;
}

export async function startApp(app: App, wire: Wire = "memory"): Promise<StartedApp> {
  if (wire === "memory") {
    const { transport, connect, stop } = await app.start();
    const end = once(stop);
    return { transport, connect, url: "", target: "dns:///in-memory.invalid:1", end, stop: end };
  }
  const running = await app.serve({ port: 0 });
  const target = `127.0.0.1:${running.port}`;
  // A plain client without health checks, so that a test also sees the responses of a NOT_SERVING app.
  const sessionManager = new Http2SessionManager(running.url);
  const end = once(() => running.stop({ graceMs: 0 }));
  return {
    transport: createGrpcTransport({ baseUrl: running.url, sessionManager }),
    url: running.url,
    target,
    end,
    async stop() {
      sessionManager.abort();
      await end();
    },
  };
}

/** Connects to an in-memory app. */
export function connectInMemory({ connect, transport }: StartedApp, interceptors: readonly Interceptor[]): Connection {
  return { transport: connect?.(interceptors) ?? transport, close() {} };
}

function once(end: () => Promise<void>): () => Promise<void> {
  let ending: Promise<void> | undefined;
  return () => {
    ending ??= end();
    return ending;
  };
}
