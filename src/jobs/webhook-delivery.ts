import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { create, toJsonString } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { Webhook } from "standardwebhooks";
import { type Job, JobSchema } from "../gen/throughline/v1/job_pb.js";
import { type JobMessages, snapshotOf } from "./job-message.js";
import type { JobPayloads } from "./job-payloads.js";
import type { StoredJob } from "./job-rows.js";
import { checkWebhookUrl, resolveWebhook, type WebhookAddress, type WebhookPolicy } from "./webhook-target.js";

/** Options of {@link createWebhookDelivery}. */
export interface WebhookDeliveryOptions {
  readonly payloads: JobPayloads;
  readonly messages: JobMessages;
  readonly policy: WebhookPolicy;
  /** Key of the signatures: base64, with or without `whsec_`. */
  readonly secret: string;
  /** Base URL of images; undefined: the bodies have no URLs of images. */
  readonly publicUrl: string | undefined;
}

/** Time limit of a delivery, in milliseconds: from the resolution of the host to the head of the response. */
const deliveryMs = 10_000;

/** A delivery has failed. Its message has no part of the URL but the host, which may be logged: paths may have secrets. */
export class WebhookError extends Error {
  override readonly name = "WebhookError";
}

/**
 * Creates the delivery of a job's webhook. It resolves when the receiver has answered with 2xx.
 *
 * @throws WebhookError that says why it was not delivered.
 */
export function createWebhookDelivery(options: WebhookDeliveryOptions): (job: StoredJob) => Promise<void> {
  const { payloads, messages, policy, publicUrl } = options;
  const signer = new Webhook(options.secret);
  /** Resolutions under way. One for each host: they take threads that also read and write files, of which a process has four. */
  const resolving = new Map<string, Promise<WebhookAddress>>();

  const resolve = (url: URL): Promise<WebhookAddress> => {
    const known = resolving.get(url.hostname);
    if (known !== undefined) {
      return known;
    }
    const found = resolveWebhook(url, policy).finally(() => resolving.delete(url.hostname));
    resolving.set(url.hostname, found);
    return found;
  };

  return async (job) => {
    const { id, webhook } = job;
    if (webhook === undefined) {
      return;
    }
    try {
      const text = payloads.openWebhook(id, webhook);
      // Again: the operator may have taken the host off the list since the job was created.
      checkWebhookUrl(text, policy);
      const url = new URL(text);
      const message = await messages.toMessage(snapshotOf(job), { baseUrl: publicUrl ?? "", withImages: false });
      const body = toJsonString(JobSchema, publicJob(message, publicUrl), {
        useProtoFieldName: true,
        alwaysEmitImplicit: true,
      });
      const at = new Date();
      const signal = AbortSignal.timeout(deliveryMs);
      const address = await unlessAborted(resolve(url), signal);
      const status = await post(url, address, body, signal, {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
        "webhook-signature": signer.sign(id, at, body),
      });
      if (status < 200 || status > 299) {
        throw new WebhookError(`the receiver answered ${status}`);
      }
    } catch (error) {
      throw error instanceof WebhookError ? error : new WebhookError(reasonOf(error), { cause: error });
    }
  };
}

/** One line. Errors of connections have a code that says it all; the message of some is empty. */
function reasonOf(error: unknown): string {
  if (error instanceof ConnectError) {
    return error.rawMessage;
  }
  if (!(error instanceof Error)) {
    return "unknown error";
  }
  if (error.name === "TimeoutError") {
    return `no answer within ${deliveryMs / 1000} s`;
  }
  return "code" in error && typeof error.code === "string" ? error.code : error.message.replace(/\s+/g, " ");
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
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
  signal: AbortSignal,
  headers: Readonly<Record<string, string>>,
): Promise<number> {
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = send(
      url,
      {
        method: "POST",
        headers: { ...headers, "content-length": String(Buffer.byteLength(body)), "user-agent": "throughline" },
        signal,
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
    // An abort's own error says nothing; its reason is the time limit.
    request.on("error", (error) => reject(signal.aborted ? signal.reason : error));
    request.end(body);
  });
}
