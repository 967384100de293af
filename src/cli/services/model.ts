import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { type DownloadProgress, fetchModel } from "../../hub/fetch-model.js";
import { HubError } from "../../hub/hub-fetch.js";
import { parseModelId } from "../../hub/model-id.js";
import { embeddedModelFolder } from "../../worker/embedded-model.js";
import type { CommandContext } from "../command.js";
import { CliError, usageError } from "../errors.js";
import { expandHome, readHubVariables } from "../options/model-options.js";
import type { Progress } from "../terminal/progress.js";
import { createProxyFetch } from "./proxies.js";

/**
 * Returns the folder of the model that `--model` names: a folder, or a model of the Hugging Face Hub, which is downloaded unless it is
 * cached. A path that exists, or that begins like a path, is a folder.
 *
 * @param model absent: the model in the package.
 * @throws CliError when it is neither; HubError when it cannot be downloaded; the interrupt's reason.
 */
export async function findModel(
  model: string | undefined,
  { environment, interrupt }: Pick<CommandContext, "environment" | "interrupt">,
  onProgress: (progress: DownloadProgress) => void,
): Promise<string> {
  if (model === undefined) {
    return embeddedModelFolder;
  }
  const folder = expandHome(model);
  if (existsSync(folder) || isAbsolute(folder) || /^[.~\\]/.test(folder)) {
    return resolve(folder);
  }
  const id = parseModelId(model);
  if (id === undefined) {
    throw usageError(
      `--model must be a folder, a .safetensors file or a model of the Hugging Face Hub such as owner/name, owner/name@revision or owner/name:file.safetensors, got ${JSON.stringify(model)}`,
    );
  }
  try {
    const send = await createProxyFetch(environment);
    return await fetchModel({ ...readHubVariables(environment), model: id, signal: interrupt, send, onProgress });
  } catch (error) {
    if (error instanceof HubError && (error.kind === "not-found" || error.kind === "offline")) {
      throw new CliError(`${error.message} (and there is no folder ${resolve(folder)})`, { cause: error });
    }
    throw error;
  }
}

const mebibyte = 2 ** 20;

/** Shows a download: a bar on a terminal, else a line for every tenth. */
export function showDownload(progress: Pick<Progress, "phase" | "step">, isTerminal: boolean) {
  let last = "";
  return ({ doneBytes, totalBytes }: DownloadProgress): void => {
    if (isTerminal) {
      progress.phase("downloading the model");
      progress.step(Math.floor(doneBytes / mebibyte), Math.ceil(totalBytes / mebibyte), "MiB");
      return;
    }
    const percent = Math.floor((10 * doneBytes) / totalBytes) * 10;
    const line = `downloading the model: ${percent}% of ${Math.ceil(totalBytes / mebibyte)} MiB`;
    if (line !== last) {
      last = line;
      progress.phase(line);
    }
  };
}

/** Threads of the model: `--threads`, or for 0 the CPU quota of the control group; undefined takes one for each core. */
export async function threadsOf(threads: number): Promise<number | undefined> {
  if (threads > 0) {
    return threads;
  }
  const quota = await readCpuQuota();
  return quota !== undefined && quota < availableParallelism() ? Math.max(1, Math.floor(quota)) : undefined;
}

/** CPUs' worth of time that this process's control groups (version 2 or 1) allow; undefined without a limit. */
export async function readCpuQuota(
  read: (file: string) => Promise<string> = (file) => readFile(file, "utf8"),
): Promise<number | undefined> {
  const text = (file: string) => read(file).catch(() => "");
  const quotas: number[] = [];
  for (const line of (await text("/proc/self/cgroup")).split("\n")) {
    const [, controllers = "", path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    const isFirst = controllers.split(",").includes("cpu");
    if (controllers !== "" && !isFirst) {
      continue;
    }
    // Each group above limits those in it. Within a container the path may be the host's: then only the root exists.
    for (let group = path; ; group = dirname(group)) {
      const folder = join(isFirst ? "/sys/fs/cgroup/cpu" : "/sys/fs/cgroup", group);
      const [quota, period] = isFirst
        ? [await text(join(folder, "cpu.cfs_quota_us")), await text(join(folder, "cpu.cfs_period_us"))]
        : (await text(join(folder, "cpu.max"))).split(" ");
      if (Number(quota) > 0 && Number(period) > 0) {
        quotas.push(Number(quota) / Number(period));
      }
      if (group === dirname(group)) {
        break;
      }
    }
  }
  return quotas.length === 0 ? undefined : Math.min(...quotas);
}
