import { once } from "node:events";
import { createServer } from "node:net";

const [first, count] = [10_000, 20_000];
/** Every process begins somewhere else, and gives no port twice. */
let offset = Math.floor(Math.random() * count);

/**
 * A free port for a test whose server comes later, or comes back: of those that the system never gives away by itself, so that no
 * other process's connection takes it while nobody listens there.
 */
export async function steadyPort(): Promise<number> {
  for (;;) {
    offset = (offset + 7_919) % count;
    const port = first + offset;
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await once(server, "listening").then(
      () => true,
      () => false,
    );
    if (isFree) {
      server.close();
      await once(server, "close");
      return port;
    }
  }
}
