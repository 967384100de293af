import type { JobWithMetadata } from "pg-boss";
import type { Logger } from "pino";
import type { JobDatabase } from "./job-database.js";
import type { JobStore } from "./job-store.js";
import { deadWebhookQueue, webhookQueue } from "./job-table.js";
import { createWebhookDelivery, type WebhookDeliveryOptions, WebhookError } from "./webhook-delivery.js";

/** Options of {@link createWebhooks}. */
export interface WebhooksOptions extends WebhookDeliveryOptions {
  readonly database: JobDatabase;
  readonly store: Pick<JobStore, "read">;
  readonly logger: Logger;
}

/** Sends the webhooks of ended jobs. */
export interface Webhooks {
  start(): Promise<void>;
  /** Looks for webhooks to be sent. */
  wake(): void;
  close(): Promise<void>;
}

/** Ten tries, the last after about three hours. */
const tries = 10;
const queueOptions = {
  retryLimit: tries - 1,
  retryDelay: 10,
  retryBackoff: true,
  retryDelayMax: 3600,
  expireInSeconds: 60,
  retentionSeconds: 14 * 24 * 3600,
};
const pollMs = 2_000;

/** Webhooks of one host that are sent at a time: one that answers late holds no more. */
const maxOfHost = 8;
/** Webhooks that are sent at a time, to all hosts. */
const maxOfAll = 64;

type Due = JobWithMetadata<{ readonly id: string }>;

/**
 * Creates the sender. A webhook is the job as JSON, without its request and image bytes, signed as Standard Webhooks. Its row commits with the
 * job's end, so that none is lost and none is sent for an attempt that did not count. A receiver may get one twice: its `webhook-id` is the
 * job's id. Each is sent on its own, within a bound for its host and one for all.
 *
 * @see https://www.standardwebhooks.com
 */
export function createWebhooks(options: WebhooksOptions): Webhooks {
  const { database, store, logger } = options;
  const { boss } = database;
  const deliver = createWebhookDelivery(options);
  const sending = new Set<Promise<void>>();
  const ofHost = new Map<string, number>();
  let timer: NodeJS.Timeout | undefined;
  let looking: Promise<void> | undefined;
  let lookAgain = false;
  let closed = false;

  const send = async ({ id, retryCount, data, groupId }: Due): Promise<void> => {
    let failure: WebhookError | undefined;
    // Absent: the job was deleted meanwhile.
    const job = await store.read(data.id);
    try {
      if (job !== undefined) {
        await deliver(job);
      }
    } catch (error) {
      if (!(error instanceof WebhookError)) {
        throw error;
      }
      failure = error;
    }
    if (failure === undefined) {
      await boss.complete(webhookQueue, { id, retryCount });
      return;
    }
    await boss.fail(webhookQueue, { id, retryCount });
    const [next] = await boss.findJobs(webhookQueue, { id });
    const isLast = next?.state !== "retry";
    logger.warn(
      {
        job: data.id,
        host: groupId ?? undefined,
        cause: failure.message,
        try: retryCount + 1,
        tries,
        nextTry: isLast ? undefined : next.startAfter.toISOString(),
      },
      isLast ? "webhook not delivered by its last try: `jobs redrive` sends it again" : "webhook not delivered",
    );
  };

  const start = (due: Due): void => {
    const host = due.groupId ?? "";
    ofHost.set(host, (ofHost.get(host) ?? 0) + 1);
    const sent = send(due)
      // Its claim ends after a minute, and another try follows.
      .catch((error: unknown) => logger.warn({ err: error }, "the state of a webhook cannot be read or stored"))
      .finally(() => {
        sending.delete(sent);
        const left = (ofHost.get(host) ?? 1) - 1;
        if (left === 0) {
          ofHost.delete(host);
        } else {
          ofHost.set(host, left);
        }
        wake();
      });
    sending.add(sent);
  };

  /** One at a time, so that no host gets more than its own number. */
  const startDue = async (): Promise<void> => {
    while (!closed && sending.size < maxOfAll) {
      const busy = [...ofHost].filter(([, count]) => count >= maxOfHost).map(([host]) => host);
      const [due] = await boss.fetch<{ readonly id: string }>(webhookQueue, {
        includeMetadata: true,
        ignoreGroups: busy,
      });
      if (due === undefined) {
        return;
      }
      start(due);
    }
  };

  const wake = (): void => {
    if (closed) {
      return;
    }
    if (looking !== undefined) {
      lookAgain = true;
      return;
    }
    lookAgain = false;
    looking = startDue()
      .catch((error: unknown) => logger.warn({ err: error }, "webhooks cannot be read"))
      .finally(() => {
        looking = undefined;
        if (lookAgain) {
          wake();
        }
      });
  };

  return {
    async start() {
      await openWebhookQueues(database);
      timer = setInterval(wake, pollMs);
      wake();
    },
    wake,
    async close() {
      closed = true;
      clearInterval(timer);
      await looking;
      await Promise.all(sending);
    },
  };
}

/** Creates the queues of webhooks, unless they exist. Webhooks are queued also by pipelines that do not send them. */
export async function openWebhookQueues({ openQueue }: JobDatabase): Promise<void> {
  await openQueue(deadWebhookQueue, {});
  await openQueue(webhookQueue, { ...queueOptions, deadLetter: deadWebhookQueue });
}

/** Queues the dead webhooks again. Returns their number. */
export async function redriveWebhooks(database: JobDatabase): Promise<number> {
  await openWebhookQueues(database);
  return database.boss.redrive(deadWebhookQueue);
}
