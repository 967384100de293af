import { randomUUID } from "node:crypto";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Delivery } from "../../gen/throughline/v1/image_pb.js";
import { type Job, JobPriority, JobService, JobState } from "../../gen/throughline/v1/job_pb.js";
import { imageFileName } from "../../image/image-store.js";
import { jobImageUrl } from "../../jobs/job-files.js";
import type { CommandContext } from "../command.js";
import { CliError, exitCodes, messageOf, usageError } from "../errors.js";
import { withImageSettings } from "../image/image-settings.js";
import { imageTargetOf, toStdout } from "../image/image-target.js";
import { readInitImage } from "../image/init-image.js";
import { describeImage, saveImage, savePreviewsOf } from "../image/save-image.js";
import { defaultServerUrl } from "../options/client-options.js";
import type { submitOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { commandPrefix } from "../package-root.js";
import { accessOf } from "../services/security.js";
import { renderImage } from "../terminal/inline-image.js";
import { createProgress } from "../terminal/progress.js";
import { jsonLine } from "../terminal/terminal.js";
import { describeJob, jobFailure, jobToJson } from "./job-text.js";
import { rejectedFlags } from "./rejected-flags.js";
import { generateRequestOf, maxMessageBytes } from "./request-image.js";
import { createServerTransport, describeCallFailure } from "./studio-client.js";
import { watchToEnd } from "./watch-job.js";

type SubmitSettings = OptionValues<typeof submitOptions>;

const priorities = { low: JobPriority.LOW, normal: JobPriority.NORMAL, high: JobPriority.HIGH } as const;

/** Time limit for an image's download, in milliseconds. */
const fetchMs = 300_000;

/** Creates a job; with `--wait`, watches it to its end and writes its image to a file. */
export async function runSubmit(given: SubmitSettings, context: CommandContext, givenPrompt: string): Promise<number> {
  const { flags: settings, prompt } = await withImageSettings(given, givenPrompt, context);
  const { server, wait, json, quiet, requestId = randomUUID() } = settings;
  const { stdout, interrupt } = context;
  if (!wait && settings.out !== undefined) {
    throw usageError("--out needs --wait: without it, no image is written");
  }
  const { path, format } = imageTargetOf(settings, prompt, stdout);
  const request = { ...settings, prompt, format, delivery: Delivery.UNSPECIFIED };
  const initImage = await readInitImage(settings);
  const client = createClient(
    JobService,
    createServerTransport({ server, access: accessOf(settings), maxMessageBytes }),
  );
  const create = async (): Promise<Job> => {
    try {
      const { job } = await client.createJob(
        {
          work: { case: "generate", value: generateRequestOf({ ...request, initImage }) },
          requestId,
          priority: priorities[settings.priority],
          webhookUrl: settings.webhook ?? "",
          ...(settings.startTimeout !== undefined && { startTimeout: durationFromMs(settings.startTimeout * 1000) }),
          ...(settings.runTimeout !== undefined && { runTimeout: durationFromMs(settings.runTimeout * 1000) }),
          ...(settings.resultTtl !== undefined && { resultTtl: durationFromMs(settings.resultTtl * 1000) }),
        },
        { signal: interrupt },
      );
      if (job !== undefined) {
        return job;
      }
    } catch (error) {
      interrupt.throwIfAborted();
      const rejected = rejectedFlags(error);
      const cause = rejected.length === 0 ? "" : ` (set by ${rejected.join(", ")})`;
      // The connection was lost in mid-call: the job may be there.
      const again =
        ConnectError.from(error).code === Code.Aborted
          ? `. The job may have been created: the same command with --request-id ${requestId} creates no second one`
          : "";
      throw new CliError(`${describeCallFailure(server, error, "pipeline")}${cause}${again}`, { cause: error });
    }
    throw new CliError(`${server} returned no job`);
  };

  const job = await create();
  if (!wait) {
    stdout.write(json ? jsonLine(jobToJson(job)) : `${describeJob(job)}\n`);
    if (!json && !quiet) {
      const here = server === defaultServerUrl ? "" : ` --server ${server}`;
      stdout.write(`Watch it: ${commandPrefix} jobs watch ${job.id}${here}\n`);
    }
    return exitCodes.done;
  }

  const progress = createProgress(context, quiet || json);
  const onPreview = savePreviewsOf(path);
  try {
    const last = await watchToEnd(client, job, { server, progress, interrupt, onPreview });
    progress.end();
    if (last.state !== JobState.SUCCEEDED || last.detail.case !== "result") {
      throw jobFailure(last);
    }
    const result = last.detail.value;
    const { image, bytes } = await saveImage(path, result, { ...context, server, timeoutMs: fetchMs }).catch(
      (error: unknown) => {
        interrupt.throwIfAborted();
        if (json) {
          stdout.write(jsonLine(jobToJson(last)));
        }
        throw unsavedImage(last, server, error);
      },
    );
    if (json) {
      stdout.write(jsonLine({ ...jobToJson(last), image }));
    } else if (path !== toStdout) {
      stdout.write(`${renderImage({ ...image, bytes }, settings, context)}${describeImage(image, result)}\n`);
    }
  } finally {
    progress.end();
  }
  return exitCodes.done;
}

/** The job is done and paid for: its image is to be had without another one. */
function unsavedImage({ id, detail, expireTime }: Job, server: string, error: unknown): CliError {
  const fileName = (detail.case === "result" ? detail.value.image?.fileName : undefined) ?? "";
  const until = expireTime === undefined ? "" : ` until ${new Date(timestampMs(expireTime)).toISOString()}`;
  // The pipeline has it under its own address too, whatever --public-url says.
  const again = imageFileName.test(fileName)
    ? `: curl --fail --output ${fileName} ${jobImageUrl(id, fileName, server)}`
    : `: ${commandPrefix} jobs get ${id} prints its URL`;
  return new CliError(
    `job ${id} has succeeded, but its image is not saved: ${messageOf(error)}. The pipeline keeps it${until}${again}`,
    { cause: error },
  );
}
