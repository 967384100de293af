import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { App } from "../app/create-app.js";
import type { Connection } from "../mesh/grpc/connection.js";

/** `memory`: apps are called in memory, over the Connect protocol; `port`: over gRPC on free ports of the loopback. */
export type Wire = "memory" | "port";

/** An app that runs in this process, with a way to it. */
export interface StartedApp {
  readonly transport: Transport;
  /** A transport with client interceptors, where the app is called in memory. */
  readonly connect?: ((interceptors: readonly Interceptor[]) => Transport) | undefined;
  readonly url: string;
  /** gRPC target; never dialled in memory. */
  readonly target: string;
  /** Ends the app, and leaves the way to it. */
  end(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts an app. */
export async function startApp(app: App, wire: Wire = "memory"): Promise<StartedApp> {
  if (wire === "memory") {
    const { transport, connect, stop } = await app.start();
    const end = once(stop);
    return { transport, connect, url: "", target: "dns:///in-memory.invalid:1", end, stop: end };
  }
  const running = await app.serve({ port: 0 });
  const target = `127.0.0.1:${running.port}`;
  // A stock client: a test sees what the app answers, whatever its health says.
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

/** A connection to an app that runs in memory. */
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
