import { open, readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type * as z from "zod";
import { readCheckpoint } from "./checkpoint-file.js";
import { readClipTokenizers, readTokenizers } from "./clip-tokenizer.js";
import { asModelError, createFolderReader, type FolderReader, ModelFolderError } from "./folder-reader.js";
import { clipPlanSchema, unetPlanSchema, vaePlanSchema } from "./graphs/plan-config.js";
import {
  modelIndexSchema,
  modelName,
  schedulerClassSchema,
  sdxlSchedulerConfig,
  sdxlTextConfigs,
  sdxlUnetConfig,
  sdxlVaeConfig,
  textEncoderSchema,
  throughlineSchema,
  unetSchema,
  vaeSchema,
} from "./model-config.js";
import {
  distilledDefaults,
  distilledKind,
  familyName,
  type ModelDescription,
  type ModelForm,
} from "./model-description.js";
import { chooseWeightFile, readDiffusersWeights, type WeightFolder } from "./weights/diffusers-weights.js";

/** File that holds the scheduler's configuration. */
export const schedulerFile = "scheduler/scheduler_config.json";

/**
 * Reads a model: a diffusers folder of safetensors, a checkpoint of one `.safetensors` file, or a folder of ONNX graphs in the layout of
 * Stability's SDXL base 1.0 export. A folder may have a `throughline.json`.
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
  const textEncoders = [
    await read("text_encoder/config.json", textEncoderSchema, firstText),
    await read("text_encoder_2/config.json", textEncoderSchema, secondText),
  ] as const;
  const model: ModelDescription = {
    path,
    name,
    family: familyName(typeof unet.time_cond_proj_dim === "number" ? "LCM" : kind),
    form: form === "onnx" ? { kind: "onnx" } : await readForm(reader),
    forceZerosForEmptyPrompt: index.force_zeros_for_empty_prompt,
    scheduler: { className: scheduler._class_name, config: scheduler },
    textEncoders,
    tokenizers: await readOwnTokenizers(reader, form, textEncoders, assumptions),
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

async function readOwnTokenizers(
  reader: FolderReader,
  form: ModelForm["kind"] | undefined,
  textEncoders: ModelDescription["textEncoders"],
  assumptions: string[],
): Promise<ModelDescription["tokenizers"]> {
  const folders = ["tokenizer", "tokenizer_2"] as const;
  const present = await Promise.all(folders.map((folder) => reader.exists(folder)));
  if (form === "onnx" && !present.some(Boolean)) {
    assumptions.push(...folders);
    return readClipTokenizers();
  }
  const [first, second] = textEncoders.map((encoder) => encoder.max_position_embeddings ?? 77);
  return readTokenizers(reader, folders, [first ?? 77, second ?? 77]);
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

/** If a configuration was assumed, report its absence and not the file that conflicts with it. */
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

/*
 * Checks that recognize other inputs than an SDXL folder. Without them, the error would be a missing file or an unparsable graph.
 */

/** @throws ModelFolderError when the path is no folder. */
export async function checkIsFolder(path: string): Promise<void> {
  const found = await stat(path).then(
    (entry) => (entry.isDirectory() ? undefined : "neither a folder nor a file"),
    () => "no such folder",
  );
  if (found !== undefined) {
    throw new ModelFolderError(path, { file: "model_index.json", expected: "a file", found });
  }
}

/**
 * How the weights of a folder are stored; undefined where it has none. Safetensors come first where a folder has both: they are smaller
 * and open faster.
 */
export async function folderForm(path: string): Promise<ModelForm["kind"] | undefined> {
  const names = await list(path, "unet");
  if (chooseWeightFile(names, true) === undefined && (await hasGraphs(path))) {
    return "onnx";
  }
  return names.some(isWeights) ? "safetensors" : undefined;
}

async function hasGraphs(path: string): Promise<boolean> {
  const folders = await Promise.all(weightFolders.map((folder) => list(path, folder)));
  return folders.flat().some((name) => name.endsWith(".onnx"));
}

/**
 * @param className pipeline that the model index names.
 * @throws ModelFolderError when the folder is another kind of model, holds weights that the engine does not read, or pointers in place of
 * files.
 */
export async function checkIsSdxlFolder(
  path: string,
  className: string,
  form: ModelForm["kind"] | undefined,
): Promise<void> {
  const fail = (file: string, expected: string, found: string): never => {
    throw new ModelFolderError(path, { file, expected, found });
  };
  // Some tools give their exports other names; those of Stable Diffusion 1 and 2 have one text encoder.
  const misnamed = form === "onnx" && (await list(path, "text_encoder_2")).length > 0;
  if (!className.includes("StableDiffusionXL") && !misnamed) {
    fail("model_index.json", '"_class_name" of an SDXL pipeline, such as StableDiffusionXLPipeline', className);
  }
  if (className.includes("Img2Img") && (await list(path, "text_encoder")).length === 0) {
    fail("model_index.json", "a base model", "the SDXL refiner, which finishes images of a base model");
  }
  const weights = (await list(path, "unet")).find(isWeights);
  if (form === "safetensors" && weights !== undefined && !weights.endsWith(".safetensors")) {
    fail(
      "unet/diffusion_pytorch_model.safetensors",
      "a file",
      `unet/${weights} alone, which can hold programs (take the .safetensors form of the model)`,
    );
  }
  for (const folder of weightFolders) {
    for (const name of await list(path, folder)) {
      if (await isPointer(join(path, folder, name))) {
        fail(`${folder}/${name}`, "the file itself", "a pointer of Git LFS (run `git lfs pull` in the repository)");
      }
    }
  }
}

/** Folders with the large files of a model. */
const weightFolders = ["text_encoder", "text_encoder_2", "unet", "vae", "vae_decoder"];

function list(path: string, folder: string): Promise<string[]> {
  return readdir(join(path, folder)).catch((): string[] => []);
}

function isWeights(name: string): boolean {
  return /\.(?:safetensors|bin|ckpt|msgpack)$/.test(name);
}

const pointerStart = "version https://git-lfs.github.com/spec/";

/** A clone without Git LFS has such a text in place of each large file. */
async function isPointer(file: string): Promise<boolean> {
  const entry = await stat(file).catch(() => undefined);
  if (!entry?.isFile() || entry.size > 1024) {
    return false;
  }
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(pointerStart.length));
    return buffer.toString("latin1", 0, bytesRead) === pointerStart;
  } finally {
    await handle.close();
  }
}
