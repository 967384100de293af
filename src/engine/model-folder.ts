import { basename, dirname, resolve } from "node:path";
import { checkIsExportedSdxl, checkIsFolder } from "./check-exported.js";
import { type ClipTokenizer, createClipTokenizer } from "./clip-tokenizer.js";
import { createFolderReader, type FolderReader } from "./folder-reader.js";
import {
  modelIndexSchema,
  schedulerClassSchema,
  type TextEncoderConfig,
  type ThroughlineConfig,
  textEncoderSchema,
  throughlineSchema,
  tokenizerJsonSchema,
  tokenizerSchema,
  type UnetConfig,
  unetSchema,
  type VaeConfig,
  vaeSchema,
  vocabularySchema,
} from "./model-config.js";
import { ModelFolderError } from "./model-folder-error.js";

/** All that an SDXL folder says besides its graphs, read and checked. */
export interface ModelFolder {
  /** Absolute path. */
  readonly path: string;
  /** The folder's own name; `owner/name` for a snapshot in the cache of the Hugging Face Hub. */
  readonly name: string;
  readonly forceZerosForEmptyPrompt: boolean;
  readonly tokenizers: readonly [ClipTokenizer, ClipTokenizer];
  readonly textEncoders: readonly [TextEncoderConfig, TextEncoderConfig];
  readonly unet: UnetConfig;
  readonly vae: VaeConfig;
  /** Class name and raw configuration of the model's own scheduler. */
  readonly scheduler: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
  readonly throughline: ThroughlineConfig;
}

/** File that holds the scheduler's configuration. */
export const schedulerFile = "scheduler/scheduler_config.json";

/**
 * Reads a folder of the layout of Stability's SDXL base 1.0 ONNX export, and `throughline.json` where there is one.
 *
 * @throws ModelFolderError for the first file that is missing, wrong, or does not go with the others.
 */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  const path = resolve(folder);
  const reader = createFolderReader(path);
  await checkIsFolder(path);
  const index = await reader.json("model_index.json", modelIndexSchema);
  await checkIsExportedSdxl(path, index._class_name);
  const model: ModelFolder = {
    path,
    name: modelName(path),
    forceZerosForEmptyPrompt: index.force_zeros_for_empty_prompt,
    scheduler: await readScheduler(reader),
    textEncoders: [
      await reader.json("text_encoder/config.json", textEncoderSchema),
      await reader.json("text_encoder_2/config.json", textEncoderSchema),
    ],
    tokenizers: [await readTokenizer(reader, "tokenizer"), await readTokenizer(reader, "tokenizer_2")],
    unet: await reader.json("unet/config.json", unetSchema),
    vae: await reader.json("vae_decoder/config.json", vaeSchema),
    throughline: (await reader.optionalJson("throughline.json", throughlineSchema)) ?? {},
  };
  checkTogether(model);
  return model;
}

/** A snapshot lies at `models--owner--name/snapshots/<commit>`, and its own name says nothing. */
function modelName(path: string): string {
  const snapshots = dirname(path);
  const [, owner, name] = /^models--(.+?)--(.+)$/.exec(basename(dirname(snapshots))) ?? [];
  return owner !== undefined && basename(snapshots) === "snapshots" ? `${owner}/${name}` : basename(path);
}

async function readScheduler(reader: FolderReader): Promise<ModelFolder["scheduler"]> {
  const config = await reader.json(schedulerFile, schedulerClassSchema);
  return { className: config._class_name, config };
}

/** vocab.json and merges.txt as in the official folders, else tokenizer.json. */
async function readTokenizer(reader: FolderReader, folder: string): Promise<ClipTokenizer> {
  const configFile = `${folder}/tokenizer_config.json`;
  const config = await reader.json(configFile, tokenizerSchema);
  const special = (await reader.optionalJson(`${folder}/special_tokens_map.json`, tokenizerSchema)) ?? {};
  const { vocabulary, merges } = await readVocabulary(reader, folder);
  const end = special.eos_token ?? config.eos_token ?? "<|endoftext|>";
  try {
    return createClipTokenizer({
      vocabulary: new Map(Object.entries(vocabulary)),
      merges,
      // 77 for every CLIP; some configurations say "no limit" by a huge number.
      maximumTokens:
        config.model_max_length !== undefined && config.model_max_length < 1e6 ? config.model_max_length : 77,
      specialTokens: {
        start: special.bos_token ?? config.bos_token ?? "<|startoftext|>",
        end,
        padding: special.pad_token ?? config.pad_token ?? end,
        unknown: special.unk_token ?? config.unk_token ?? end,
      },
    });
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    const file = `${folder}/vocab.json`;
    throw new ModelFolderError(reader.folder, { file, expected: "every special token", found }, { cause: error });
  }
}

async function readVocabulary(
  reader: FolderReader,
  folder: string,
): Promise<{ vocabulary: Record<string, number>; merges: readonly string[] }> {
  const vocabulary = await reader.optionalJson(`${folder}/vocab.json`, vocabularySchema);
  if (vocabulary !== undefined) {
    const lines = (await reader.text(`${folder}/merges.txt`)).split("\n");
    return { vocabulary, merges: lines.filter((line) => line !== "" && !line.startsWith("#version")) };
  }
  const whole = await reader.optionalJson(`${folder}/tokenizer.json`, tokenizerJsonSchema);
  if (whole === undefined) {
    const expected = "a file (or tokenizer.json in its place)";
    throw new ModelFolderError(reader.folder, { file: `${folder}/vocab.json`, expected, found: "neither" });
  }
  return { vocabulary: whole.model.vocab, merges: whole.model.merges };
}

/** What no schema of one file can see. */
function checkTogether({ path, textEncoders, unet, vae, throughline }: ModelFolder): void {
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
      `in_channels ${vae.latent_channels} (latent_channels of vae_decoder)`,
      `${unet.in_channels}`,
    );
  }
  for (const key of ["latents_mean", "latents_std"] as const) {
    const length = vae[key]?.length;
    if (length !== undefined && length !== vae.latent_channels) {
      fail("vae_decoder/config.json", `${key} of ${vae.latent_channels} numbers`, `${length}`);
    }
  }
  const rows = throughline.previewFactors?.length;
  if (rows !== undefined && rows !== vae.latent_channels) {
    fail("throughline.json", `previewFactors of ${vae.latent_channels} rows (latent channels)`, `${rows}`);
  }
}
