import { existsSync } from "node:fs";
import { access, constants, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { readModel } from "../../engine/model-folder.js";
import { HubError } from "../../hub/hub-fetch.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import type { loraOptions } from "../options/lora-options.js";
import { readHubVariables } from "../options/model-options.js";
import type { OptionValues } from "../options/option.js";
import type { SettingProblem } from "../options/setting-problem.js";
import { type ImageStoreOptions, imageStoreProblems, openBucketOf } from "../services/image-stores.js";
import { findLoras } from "../services/loras.js";
import { findModel } from "../services/model.js";
import type { Problems } from "./problems.js";

/** Checks that a folder can be written, or can be created in one that can. Writes nothing. */
export function checkFolder(setting: string, folder: string, problems: Problems): Promise<void> {
  const path = resolve(folder);
  return problems.attempt(setting, "name a folder that this user can write, or let this user write there", async () => {
    const place = nearestExisting(path);
    if (!(await stat(place)).isDirectory()) {
      throw new Error(`${place} is not a folder`);
    }
    await access(place, constants.W_OK | constants.X_OK);
  });
}

function nearestExisting(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearestExisting(dirname(path));
}

/** Checks a service's image store without a request to a bucket. */
export async function checkImages(
  settings: ImageStoreOptions,
  environment: Environment,
  problems: Problems,
): Promise<void> {
  const together = imageStoreProblems(settings);
  problems.add(together);
  if (together.length === 0) {
    await problems.attempt("--image-store", "install the packages of the S3 store, or use --images", () =>
      openBucketOf(settings, environment),
    );
  }
  if (settings.images !== undefined) {
    await checkFolder("--images", settings.images, problems);
  }
}

/** The settings of a model. */
interface ModelSettings extends OptionValues<typeof loraOptions> {
  readonly model: string | undefined;
}

/**
 * Checks that the model is there: its folder, or its copy in the Hub's cache. No network is used.
 *
 * @returns a warning for a model that the start has to download.
 */
export async function checkModel(
  settings: ModelSettings,
  environment: Environment,
  problems: Problems,
): Promise<readonly SettingProblem[]> {
  const { model } = settings;
  const warnings: SettingProblem[] = [];
  const isOffline = await problems.attempt(
    "HF_…",
    "correct the variables of the Hugging Face Hub",
    () => readHubVariables(environment).offline === true,
  );
  const folder = await problems.attempt(
    "--model",
    "name a folder, a .safetensors file, or a model of the Hub",
    async () => {
      try {
        const offline = { ...environment, HF_HUB_OFFLINE: "1" };
        return await findModel(model, { environment: offline, interrupt: new AbortController().signal }, () => {});
      } catch (error) {
        const isAbsent = error instanceof Error && (error.cause ?? error) instanceof HubError;
        if (!isAbsent || isOffline !== false) {
          throw error;
        }
        const problem = `${model} is not in the cache of the Hub`;
        warnings.push({ setting: "--model", problem, remedy: "the start downloads it; this check uses no network" });
        return undefined;
      }
    },
  );
  if (folder !== undefined) {
    await problems.attempt("--model", "name a folder with a whole SDXL model", () => readModel(folder));
  }
  const loras = await problems.attempt("--lora-folder", "name a folder that this user can read", () =>
    findLoras(settings),
  );
  for (const { name, file } of loras ?? []) {
    await problems.attempt("--lora", "name a .safetensors file that this user can read", () =>
      access(file, constants.R_OK).catch(() => {
        throw new Error(`${name}: ${file} cannot be read`);
      }),
    );
  }
  return warnings;
}
