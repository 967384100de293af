import { stat } from "node:fs/promises";
import { dirname, parse } from "node:path";
import type { SubModelFolder } from "./graph-files.js";
import type { BuiltGraphSource } from "./graph-source.js";
import { buildClip } from "./graphs/clip.js";
import { type BuiltGraph, type ComputeType, createGraphBuilder, type GraphBuilder } from "./graphs/graph-builder.js";
import { buildUnet } from "./graphs/unet.js";
import { buildVaeDecoder } from "./graphs/vae.js";
import type { ModelDescription, SafetensorsForm } from "./model-description.js";
import { planResidence, type ResidenceOptions } from "./residence.js";
import { asModelError } from "./weight-fault.js";
import type { WeightFolder } from "./weights/diffusers-weights.js";
import { checkNothingLeft } from "./weights/leftover.js";
import { findNonFinite } from "./weights/non-finite.js";
import { parametersOf, WeightError, type WeightFile, type WeightSource } from "./weights/tensor-location.js";

/** The graphs of a model of safetensors, and a check that its files are still those that the graphs were built over. */
export interface BuiltGraphs {
  readonly graphs: Readonly<Record<SubModelFolder, BuiltGraphSource>>;
  /** @throws ModelFolderError when a file was replaced or changed meanwhile. */
  checkUnchanged(): Promise<void>;
  /** Reads all weights, to say whether they are why images have no numbers. @throws ModelFolderError when they are */
  checkNumbers(): Promise<void>;
  /** Where the weights are to be, and why. */
  readonly precision: string;
  readonly weights: { readonly parameters: number; readonly bytes: number };
}

/** Parts of a VAE that images are not decoded with. */
const encoderPart = /^(?:first_stage_model\.)?(?:encoder|quant_conv)\./;

/**
 * Builds the four graphs of a model over its weights, which stay where they are.
 *
 * @throws ModelFolderError when a tensor is missing, left over, or not as its part needs it.
 */
export async function buildGraphs(
  model: ModelDescription,
  form: SafetensorsForm,
  options: ResidenceOptions,
): Promise<BuiltGraphs> {
  const { provider, precision } = options;
  const half = precision !== "float32";
  const weights = await form.readWeights(half);
  // The kernels of a CPU compute in float32 whatever the graph says.
  const compute: ComputeType = half && provider !== "cpu" ? "float16" : "float32";
  const { plans } = form;
  const { residence, reason } = planResidence(weights, options);
  const make = (
    subModel: SubModelFolder,
    source: WeightSource,
    build: (g: GraphBuilder) => BuiltGraph,
    more: { readonly compute?: ComputeType; readonly mayBeLeft?: RegExp } = {},
  ): BuiltGraphSource => {
    const root = rootOf(source);
    const built = build(createGraphBuilder({ weights: source, compute: more.compute ?? compute, root }));
    checkNothingLeft(source, built.used, more.mayBeLeft);
    return {
      kind: "built",
      subModel,
      file: source.label,
      model: built.model,
      root,
      residence: residence(subModel),
    };
  };
  try {
    const graphs = {
      text_encoder: make("text_encoder", weights.text_encoder, (g) => buildClip(g, plans.textEncoders[0])),
      text_encoder_2: make("text_encoder_2", weights.text_encoder_2, (g) => buildClip(g, plans.textEncoders[1])),
      unet: make("unet", weights.unet, (g) => buildUnet(g, plans.unet)),
      vae_decoder: make("vae_decoder", weights.vae, (g) => buildVaeDecoder(g, plans.vae), {
        mayBeLeft: encoderPart,
        // SDXL's own decoder overflows in half precision.
        ...(model.vae.force_upcast && { compute: "float32" }),
      }),
    };
    return {
      graphs,
      precision: reason,
      weights: sizeOf(weights),
      checkUnchanged: () => checkUnchanged(model, weights),
      checkNumbers: () => checkNumbers(model, weights),
    };
  } catch (error) {
    throw asModelError(model.form.kind === "safetensors" ? folderOf(model) : model.path, error);
  }
}

/** What errors call the folder: that of the file, for a checkpoint of one file. */
function folderOf({ path }: ModelDescription): string {
  return path.endsWith(".safetensors") ? dirname(path) : path;
}

/**
 * The folder that all files of a part lie in. onnxruntime takes locations below one folder alone; files of the Hub's cache are links to
 * elsewhere, so that the folder is that of their ends.
 */
function rootOf({ files }: WeightSource): string {
  const [first] = files;
  const folder = dirname(first?.path ?? "/");
  return files.every(({ path }) => dirname(path) === folder) ? folder : parse(folder).root;
}

function sizeOf(weights: Readonly<Record<WeightFolder, WeightSource>>): BuiltGraphs["weights"] {
  const sources = Object.values(weights);
  const files = new Map(sources.flatMap((source) => source.files.map(({ path, size }) => [path, size])));
  return {
    parameters: sources.reduce((sum, { tensors }) => sum + parametersOf(tensors), 0),
    bytes: [...files.values()].reduce((sum, size) => sum + size, 0),
  };
}

async function checkUnchanged(
  model: ModelDescription,
  weights: Readonly<Record<WeightFolder, WeightSource>>,
): Promise<void> {
  for (const { files, label } of Object.values(weights)) {
    for (const file of files) {
      if (await hasChanged(file)) {
        const error = new WeightError(label, "the file that was there when its header was read", "another one");
        throw asModelError(folderOf(model), error);
      }
    }
  }
}

async function checkNumbers(
  model: ModelDescription,
  weights: Readonly<Record<WeightFolder, WeightSource>>,
): Promise<void> {
  const found = await findNonFinite(Object.values(weights));
  if (found !== undefined) {
    const { label, tensor } = found;
    throw asModelError(
      folderOf(model),
      new WeightError(label, `numbers in ${tensor}`, "NaN or an infinity among them"),
    );
  }
}

async function hasChanged({ path, size, modifiedMs, inode }: WeightFile): Promise<boolean> {
  const now = await stat(path).catch(() => undefined);
  return now === undefined || now.size !== size || now.mtimeMs !== modifiedMs || now.ino !== inode;
}
