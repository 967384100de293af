import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Code, ConnectError } from "@connectrpc/connect";
import { createPipelineClient } from "../../src/client/client.js";
import { serveEcho } from "../mesh/support/serve-echo.js";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

const isCanceled = (error: unknown) => ConnectError.from(error).code === Code.Canceled;

/** A server whose calls wait until they are cancelled, and a client of it by its URL. */
async function startWaiting(t: Parameters<typeof serveEcho>[0]) {
  let begun = () => {};
  let cancelled = () => {};
  const { url } = await serveEcho(t, {
    async behaviour(_, { signal }) {
      begun();
      await once(signal, "abort");
      cancelled();
      throw signal.reason;
    },
  });
  return {
    client: createPipelineClient({ baseUrl: url }),
    nextCall: () => ({
      begun: new Promise<void>((resolve) => {
        begun = resolve;
      }),
      cancelled: new Promise<void>((resolve) => {
        cancelled = resolve;
      }),
    }),
  };
}

/** Milliseconds after which a cancel counts as lost: Node 20's fetch forgets a signal whose request is collected. */
const timeout = 60_000;

suite("client by base URL cancels after a garbage collection, and the server is notified", () => {
  test("50 started streams are cancelled", { timeout }, async (t) => {
    const { client, nextCall } = await startWaiting(t);
    for (let call = 0; call < 50; call++) {
      const { cancelled } = nextCall();
      const leaving = new AbortController();
      const events = client.generateStream({ request: { prompt: "a heart" } }, { signal: leaving.signal });
      const iterator = events[Symbol.asyncIterator]();
      await iterator.next();
      await iterator.next();
      collectGarbage();
      leaving.abort();
      await assert.rejects(iterator.next(), isCanceled);
      await cancelled;
    }
  });

  test("10 unary calls are cancelled", { timeout }, async (t) => {
    const { client, nextCall } = await startWaiting(t);
    for (let call = 0; call < 10; call++) {
      const { begun, cancelled } = nextCall();
      const leaving = new AbortController();
      const answer = client.generate({ prompt: "a heart" }, { signal: leaving.signal });
      const rejected = assert.rejects(answer, isCanceled);
      await begun;
      collectGarbage();
      leaving.abort();
      await rejected;
      await cancelled;
    }
  });
});
