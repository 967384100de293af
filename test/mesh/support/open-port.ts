import type { TestContext } from "node:test";
import { type Listening, type ListenOptions, listen } from "../../../src/mesh/port/listen.js";
import type { NodeHandler } from "../../../src/mesh/port/node-handler.js";

/** Answers with the HTTP version, the method and the length of the body. */
export const echo: NodeHandler = (request, response) => {
  let length = 0;
  request.on("data", (chunk) => {
    length += chunk.length;
  });
  request.on("end", () => response.end(`${request.httpVersion} ${request.method} ${length}`));
};

/** What an HTTP/2 client sends after the preface. */
export const emptySettings = "\0\0\0\x04\0\0\0\0\0";

/** Listens on a free loopback port, with {@link echo} where the options have no handler, until the test ends. */
export async function open(t: TestContext, options: Partial<ListenOptions> = {}): Promise<Listening> {
  const listening = await listen({ handler: echo, port: 0, ...options });
  t.after(() => listening.stop({ graceMs: 0, cancelMs: 0 }));
  return listening;
}

/** A handler that holds its calls until `release`, and reports arrivals and closed connections. */
export function holdingHandler() {
  const held: (() => void)[] = [];
  const arrivals: (() => void)[] = [];
  const ends: Promise<boolean>[] = [];
  const handler: NodeHandler = (_, response) => {
    ends.push(new Promise((resolve) => response.once("close", () => resolve(response.writableEnded))));
    held.push(() => response.end("done"));
    arrivals.shift()?.();
  };
  return {
    handler,
    arrival: () => new Promise<void>((resolve) => arrivals.push(resolve)),
    release() {
      for (const finish of held.splice(0)) {
        finish();
      }
    },
    /** Of each call, once all are over: true if it was answered, false if it was cut off. */
    answered: () => Promise.all(ends),
  };
}
