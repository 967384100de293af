import { once } from "node:events";
import * as net from "node:net";
import type { TestContext } from "node:test";

/** A TCP relay to a port of the loopback that can stop passing anything on, though its connections stand, and break them. */
export async function openRelay(t: Pick<TestContext, "after">, port: number) {
  const sockets: net.Socket[] = [];
  const server = net.createServer((downstream) => {
    const upstream = net.connect(port, "127.0.0.1");
    for (const socket of [downstream, upstream]) {
      sockets.push(socket.on("error", () => {}));
    }
    downstream.pipe(upstream).pipe(downstream);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  });
  const address = server.address();
  if (typeof address !== "object" || address === null) {
    throw new Error("the relay has no port");
  }
  return {
    port: address.port,
    /** From now on nothing is passed on. */
    swallow() {
      for (const socket of sockets) {
        socket.unpipe().pause();
      }
    },
    /** Breaks all connections. New ones are passed on. */
    cut() {
      for (const socket of sockets.splice(0)) {
        socket.destroy();
      }
    },
  };
}
