import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { z } from "zod";
import { checkIsFolder, checkIsSdxlFolder, folderForm } from "./check-folder.js";
import { readCheckpoint } from "./checkpoint-file.js";
import { readClipTokenizers } from "./clip-vocabulary.js";
import { distilledDefaults, distilledKind, familyName } from "./distilled.js";
import { createFolderReader, type FolderReader } from "./folder-reader.js";
import { clipPlanSchema, unetPlanSchema, vaePlanSchema } from "./graphs/plan-config.js";
import {
  modelIndexSchema,
  schedulerClassSchema,
  textEncoderSchema,
  throughlineSchema,
  unetSchema,
  vaeSchema,
} from "./model-config.js";
import type { ModelDescription, ModelForm } from "./model-description.js";
import { ModelFolderError } from "./model-folder-error.js";
import { modelName } from "./model-name.js";
import { sdxlSchedulerConfig, sdxlTextConfigs, sdxlUnetConfig, sdxlVaeConfig } from "./sdxl-configs.js";
import { readTokenizer } from "./tokenizer-folder.js";
import { asModelError } from "./weight-fault.js";
import { readDiffusersWeights, type WeightFolder } from "./weights/diffusers-weights.js";

/** File that holds the scheduler's configuration. */
export const schedulerFile = "scheduler/scheduler_config.json";

/**
 * Reads a model: a diffusers folder of safetensors, a checkpoint of one `.safetensors` file, or a folder of ONNX graphs in the layout of
 * Stability's SDXL base 1.0 export; and `throughline.json` of a folder where there is one.
 *
 * @throws ModelFolderError for the first file that is missing, wrong, or does not go with the others.
 */
export async function readModel(modelPath: string): Promise<ModelDescription> {
  const path = resolve(modelPath);
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? readCheckpoint(path) : readModelFolder(path);
}

async function readModelFolder(path: string): Promise<ModelDescription> {
  await checkIsFolder(path);
  const form = await folderForm(path);
  const reader = createFolderReader(path);
  const assumptions: string[] = [];
  /** Exports of other tools than optimum lack configurations: theirs are SDXL's own. */
  const read = async <S extends z.ZodType>(file: string, schema: S, own: unknown): Promise<z.output<S>> => {
    if (form !== "onnx") {
      return reader.json(file, schema);
    }
    const value = await reader.optionalJson(file, schema);
    if (value !== undefined) {
      return value;
    }
    assumptions.push(file);
    return schema.parse(own);
  };

  const index = await read("model_index.json", modelIndexSchema, { _class_name: "StableDiffusionXLPipeline" });
  await checkIsSdxlFolder(path, index._class_name, form);
  const scheduler = await read(schedulerFile, schedulerClassSchema, sdxlSchedulerConfig);
  const unet = await read("unet/config.json", unetSchema, sdxlUnetConfig);
  const vaeFile = form === "onnx" ? "vae_decoder/config.json" : "vae/config.json";
  const [firstText, secondText] = sdxlTextConfigs;
  const name = modelName(path);
  const throughline = (await reader.optionalJson("throughline.json", throughlineSchema)) ?? {};
  const kind = distilledKind({ name, metadata: {} });
  const model: ModelDescription = {
    path,
    name,
    family: familyName(typeof unet.time_cond_proj_dim === "number" ? "LCM" : kind),
    form: form === "onnx" ? { kind: "onnx" } : await readForm(reader),
    forceZerosForEmptyPrompt: index.force_zeros_for_empty_prompt,
    scheduler: { className: scheduler._class_name, config: scheduler },
    textEncoders: [
      await read("text_encoder/config.json", textEncoderSchema, firstText),
      await read("text_encoder_2/config.json", textEncoderSchema, secondText),
    ],
    tokenizers: await readTokenizers(reader, form, assumptions),
    unet,
    vae: await read(vaeFile, vaeSchema, sdxlVaeConfig),
    throughline,
    distilled: distilledDefaults({
      name,
      metadata: {},
      schedulerClass: scheduler._class_name,
      guidanceEmbedding: typeof unet.time_cond_proj_dim === "number",
    }),
    assumptions: assumptions.length === 0 ? [] : [`without ${assumptions.join(", ")}: SDXL's own values are taken`],
  };
  try {
    checkTogether(model, vaeFile);
  } catch (error) {
    throw blameAbsent(path, assumptions, error);
  }
  return model;
}

async function readTokenizers(
  reader: FolderReader,
  form: ModelForm["kind"] | undefined,
  assumptions: string[],
): Promise<ModelDescription["tokenizers"]> {
  const folders = ["tokenizer", "tokenizer_2"] as const;
  const present = await Promise.all(folders.map((folder) => reader.exists(folder)));
  if (form === "onnx" && !present.some(Boolean)) {
    assumptions.push(...folders);
    return readClipTokenizers();
  }
  return [await readTokenizer(reader, folders[0]), await readTokenizer(reader, folders[1])];
}

async function readForm(reader: FolderReader): Promise<ModelForm> {
  return {
    kind: "safetensors",
    plans: {
      textEncoders: [
        await reader.json("text_encoder/config.json", clipPlanSchema),
        await reader.json("text_encoder_2/config.json", clipPlanSchema),
      ],
      unet: await reader.json("unet/config.json", unetPlanSchema),
      vae: await reader.json("vae/config.json", vaePlanSchema),
    },
    async readWeights(half) {
      const read = async (folder: WeightFolder) => {
        try {
          return await readDiffusersWeights(reader.folder, folder, half);
        } catch (error) {
          throw asModelError(reader.folder, error);
        }
      };
      return {
        text_encoder: await read("text_encoder"),
        text_encoder_2: await read("text_encoder_2"),
        unet: await read("unet"),
        vae: await read("vae"),
      };
    },
  };
}

/** Where a configuration was assumed, its absence is the fault, and not the file beside it that it does not go with. */
function blameAbsent(path: string, assumed: readonly string[], error: unknown): unknown {
  const absent = assumed.find((file) => /^(?:text_encoder|unet)/.test(file));
  if (!(error instanceof ModelFolderError) || absent === undefined) {
    return error;
  }
  const { file, expected, found } = error.fault;
  const why = `a file, since SDXL's own values do not fit (${file}: expected ${expected}, found ${found})`;
  return new ModelFolderError(path, { file: absent, expected: why, found: "none" });
}

/** What no schema of one file can see. */
function checkTogether({ path, textEncoders, unet, vae, throughline }: ModelDescription, vaeFile: string): void {
  const fail = (file: string, expected: string, found: string): never => {
    throw new ModelFolderError(path, { file, expected, found });
  };
  const [first, second] = textEncoders;
  const context = first.hidden_size + second.hidden_size;
  const wanted = [unet.cross_attention_dim].flat();
  if (wanted.some((width) => width !== context)) {
    const sum = `${first.hidden_size} + ${second.hidden_size}`;
    fail(
      "unet/config.json",
      `cross_attention_dim ${context} (hidden_size of the text encoders: ${sum})`,
      wanted.join(", "),
    );
  }
  if (unet.in_channels !== vae.latent_channels) {
    fail(
      "unet/config.json",
      `in_channels ${vae.latent_channels} (latent_channels of ${vaeFile.split("/")[0]})`,
      `${unet.in_channels}`,
    );
  }
  for (const key of ["latents_mean", "latents_std"] as const) {
    const length = vae[key]?.length;
    if (length !== undefined && length !== vae.latent_channels) {
      fail(vaeFile, `${key} of ${vae.latent_channels} numbers`, `${length}`);
    }
  }
  const rows = throughline.previewFactors?.length;
  if (rows !== undefined && rows !== vae.latent_channels) {
    fail("throughline.json", `previewFactors of ${vae.latent_channels} rows (latent channels)`, `${rows}`);
  }
}
