import { join } from "node:path";
import type { Hooks } from "./cleanup.js";
import type { Server } from "./client.js";
import type { Change, ShippedProxy } from "./shipped-proxy.js";
import type { System } from "./system.js";

export type Proxied = Awaited<ReturnType<typeof startProxied>>;

/** Starts a proxy before a system. @param changes of the shipped configuration. */
export async function startProxied(hooks: Hooks, system: System, proxy: ShippedProxy, changes: readonly Change[] = []) {
  const { upstreamPort, folder, ca } = system;
  const running = await proxy.start({ upstreamPort, folder, changes });
  hooks.after(running.stop);
  const server: Server = { port: running.port, ca, caFile: join(folder, "ca.crt") };
  return {
    ...system,
    ...running,
    server,
    /** Waits until the pipeline has passed the proxy's own health check, if there is one. */
    async healthy(): Promise<void> {
      while ((await running.hasPassedCheck?.()) === false) {
        // A check still runs.
      }
    },
  };
}
