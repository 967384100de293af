import assert from "node:assert/strict";
import { once } from "node:events";
import type { Server, Socket } from "node:net";
import type { TestContext } from "node:test";

/** Listens on a free port of the loopback until the test ends; then the server and all its connections are closed. */
export async function listenOnLoopback(
  t: Pick<TestContext, "after">,
  server: Server,
): Promise<{ readonly port: number; readonly url: string }> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return { port: address.port, url: `http://127.0.0.1:${address.port}` };
}
