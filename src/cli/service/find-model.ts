import { existsSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { type DownloadProgress, fetchModel } from "../../hub/fetch-model.js";
import { HubError } from "../../hub/hub-fetch.js";
import { parseModelId } from "../../hub/model-id.js";
import { embeddedModelFolder } from "../../worker/embedded-model.js";
import type { CommandContext } from "../command-context.js";
import { CommandError, usageError } from "../command-error.js";
import { createProxyFetch } from "../network/proxy-fetch.js";
import { expandHome, readHubVariables } from "../settings/hub-variables.js";
import type { Progress } from "../terminal/progress.js";

/**
 * Gives the folder of the model that `--model` names: a folder, or a model of the Hugging Face Hub, which is fetched unless it is in
 * the cache. What exists, or begins like a path, is a folder.
 *
 * @param model absent: the model in the package.
 * @throws CommandError when it is neither; HubError when it cannot be fetched; the interrupt's reason.
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
      `--model must be a folder, a .safetensors file or a model of the Hugging Face Hub such as owner/name, owner/name@revision or owner/name:file.safetensors, got ${JSON.stringify(model)}, which is neither`,
    );
  }
  try {
    const send = await createProxyFetch(environment);
    return await fetchModel({ ...readHubVariables(environment), model: id, signal: interrupt, send, onProgress });
  } catch (error) {
    if (error instanceof HubError && (error.kind === "not-found" || error.kind === "offline")) {
      throw new CommandError(`${error.message} (nor is there a folder ${resolve(folder)})`, { cause: error });
    }
    throw error;
  }
}

/** Shows a download: as a bar on a terminal, else as a line for every tenth. */
export function showDownload(progress: Pick<Progress, "phase" | "step">, isTerminal: boolean) {
  let last = "";
  return ({ doneBytes, totalBytes }: DownloadProgress): void => {
    if (isTerminal) {
      progress.phase("downloading the model");
      progress.step(Math.floor(doneBytes / mebibyte), Math.ceil(totalBytes / mebibyte), "MiB");
      return;
    }
    const percent = Math.floor((10 * doneBytes) / totalBytes) * 10;
    const words = `downloading the model: ${percent}% of ${Math.ceil(totalBytes / mebibyte)} MiB`;
    if (words !== last) {
      last = words;
      progress.phase(words);
    }
  };
}

const mebibyte = 2 ** 20;
