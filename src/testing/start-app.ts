import type { Transport } from "@connectrpc/connect";
import type { App } from "../app/create-app.js";
import { createChannel } from "../mesh/grpc/grpc-channel.js";
import { createGrpcTransport } from "../mesh/grpc/grpc-transport.js";

/** `memory`: apps are called in memory, over the Connect protocol; `port`: over gRPC on free ports of the loopback. */
export type Wire = "memory" | "port";

/** An app that runs in this process, with a way to it. */
export interface StartedApp {
  readonly transport: Transport;
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
    const { transport, stop } = await app.start();
    const end = once(stop);
    return { transport, url: "", target: "dns:///in-memory.invalid:1", end, stop: end };
  }
  const running = await app.serve({ port: 0 });
  const target = `127.0.0.1:${running.port}`;
  const channel = createChannel({ target });
  const end = once(() => running.stop({ graceMs: 0 }));
  return {
    transport: createGrpcTransport({ channel }),
    url: running.url,
    target,
    end,
    async stop() {
      channel.close();
      await end();
    },
  };
}

function once(end: () => Promise<void>): () => Promise<void> {
  let ending: Promise<void> | undefined;
  return () => {
    ending ??= end();
    return ending;
  };
}
