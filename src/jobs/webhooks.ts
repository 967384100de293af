import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { create, toJsonString } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { Webhook } from "standardwebhooks";
import { type Job, JobSchema } from "../gen/throughline/v1/job_pb.js";
import type { JobDatabase } from "./job-database.js";
import { type JobMessages, snapshotOf } from "./job-message.js";
import type { JobPayloads } from "./job-payloads.js";
import type { JobStore } from "./job-store.js";
import { deadWebhookQueue, webhookQueue } from "./job-table.js";
import { checkWebhookUrl, resolveWebhook, type WebhookAddress, type WebhookPolicy } from "./webhook-target.js";

/** Options of {@link createWebhooks}. */
export interface WebhooksOptions {
  readonly database: JobDatabase;
  readonly store: JobStore;
  readonly payloads: JobPayloads;
  readonly messages: JobMessages;
  readonly policy: WebhookPolicy;
  /** Key of the signatures: base64, with or without `whsec_`. */
  readonly secret: string;
  /** Base URL of images; undefined: the bodies have no URLs of images. */
  readonly publicUrl: string | undefined;
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
const queueOptions = {
  retryLimit: 9,
  retryDelay: 10,
  retryBackoff: true,
  retryDelayMax: 3600,
  expireInSeconds: 60,
  retentionSeconds: 14 * 24 * 3600,
};
/** Webhooks that are sent at a time. */
const batch = 10;
const pollMs = 2_000;
const requestMs = 10_000;

/**
 * Creates the sender. A webhook is the job as JSON, without its request and image bytes, signed as Standard Webhooks. Its row commits with the
 * job's end, so that none is lost and none is sent for an attempt that did not count. A receiver may get one twice: its `webhook-id` is the
 * job's id.
 *
 * @see https://www.standardwebhooks.com
 */
export function createWebhooks(options: WebhooksOptions): Webhooks {
  const { database, store, payloads, messages, policy, publicUrl, logger } = options;
  const { boss } = database;
  const signer = new Webhook(options.secret);
  let timer: NodeJS.Timeout | undefined;
  let sending: Promise<void> | undefined;
  let closed = false;

  const bodyOf = async (id: string): Promise<{ readonly url: string; readonly body: string } | undefined> => {
    const row = await store.read(id);
    if (row?.webhook === undefined) {
      return undefined;
    }
    const job = await messages.toMessage(snapshotOf(row), { baseUrl: publicUrl ?? "", withImages: false });
    return {
      url: payloads.openWebhook(id, row.webhook),
      body: toJsonString(JobSchema, publicJob(job, publicUrl), { useProtoFieldName: true, alwaysEmitImplicit: true }),
    };
  };

  const sendOne = async (id: string): Promise<void> => {
    const message = await bodyOf(id);
    if (message === undefined) {
      // The job was deleted meanwhile.
      return;
    }
    // Again: the operator may have taken the host off the list since the job was created.
    checkWebhookUrl(message.url, policy);
    const url = new URL(message.url);
    const at = new Date();
    const status = await post(url, await resolveWebhook(url, policy), message.body, {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
      "webhook-signature": signer.sign(id, at, message.body),
    });
    if (status < 200 || status > 299) {
      throw new Error(`the receiver answered ${status}`);
    }
  };

  const sendAll = async (): Promise<void> => {
    while (!closed) {
      const due = await boss.fetch<{ readonly id: string }>(webhookQueue, { batchSize: batch, includeMetadata: true });
      if (due.length === 0) {
        return;
      }
      await Promise.all(
        due.map(async ({ id, retryCount, data }) => {
          try {
            await sendOne(data.id);
            await boss.complete(webhookQueue, { id, retryCount });
          } catch (error) {
            logger.warn({ err: error, job: data.id, attempt: retryCount + 1 }, "webhook not delivered");
            await boss.fail(webhookQueue, { id, retryCount });
          }
        }),
      );
    }
  };

  const wake = (): void => {
    if (closed || sending !== undefined) {
      return;
    }
    sending = sendAll()
      .catch((error: unknown) => logger.warn({ err: error }, "webhooks cannot be read"))
      .finally(() => {
        sending = undefined;
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
      await sending;
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

/** The job without its request, which has the prompt, and without details of errors, which a receiver may not know. */
function publicJob(job: Job, publicUrl: string | undefined): Job {
  const { detail } = job;
  const shown: Job["detail"] =
    detail.case === "error"
      ? { case: "error", value: { ...detail.value, details: [] } }
      : detail.case === "result" && publicUrl === undefined && detail.value.image !== undefined
        ? { case: "result", value: { ...detail.value, image: { ...detail.value.image, url: "" } } }
        : detail;
  return create(JobSchema, { ...job, work: { case: undefined }, detail: shown });
}

/** Posts to an address. Redirects are not followed: the receiver of a webhook is who was checked. */
function post(
  url: URL,
  { address, family }: WebhookAddress,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<number> {
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = send(
      url,
      {
        method: "POST",
        headers: { ...headers, "content-length": String(Buffer.byteLength(body)), "user-agent": "throughline" },
        signal: AbortSignal.timeout(requestMs),
        agent: false,
        // The name stays for TLS and the host header; the address is the one that was checked.
        lookup: (_host, options, found) =>
          options.all ? found(null, [{ address, family }]) : found(null, address, family),
      },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}
