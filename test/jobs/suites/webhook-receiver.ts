import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";

/** Key of the tests' webhooks. */
export const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw9m4Yl4kyXno=";

/** A webhook as it came. */
export interface ReceivedWebhook {
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export type WebhookReceiver = Awaited<ReturnType<typeof startWebhookReceiver>>;

/** A receiver of webhooks on loopback. */
export async function startWebhookReceiver() {
  const received: ReceivedWebhook[] = [];
  const arrivals: (() => void)[] = [];
  let statuses: number[] = [200];
  let held: Promise<void> | undefined;
  let answered = 0;
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk);
    }
    received.push({ url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() });
    for (const arrived of arrivals.splice(0)) {
      arrived();
    }
    await held;
    answered++;
    const status = (statuses.length > 1 ? statuses.shift() : statuses[0]) ?? 200;
    response.writeHead(status, status === 302 ? { location: "/elsewhere" } : {}).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    url: `http://127.0.0.1:${address.port}/done`,
    received,
    /** Sets the status of the next answers, the last one for all others. */
    answer(...next: readonly number[]) {
      statuses = [...next];
    },
    /** Webhooks that have come and have no answer yet. */
    get waiting(): number {
      return received.length - answered;
    },
    /** Gives no answer until the returned function is called. */
    hold(): () => void {
      let release = (): void => {};
      held = new Promise((resolve) => {
        release = resolve;
      });
      return () => {
        held = undefined;
        release();
      };
    },
    /** Resolves when so many webhooks have come. */
    async arrived(count: number): Promise<void> {
      while (received.length < count) {
        await new Promise<void>((resolve) => arrivals.push(resolve));
      }
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
