import { freemem } from "node:os";
import { dirname, join, parse } from "node:path";
import type { ExecutionProvider } from "./device.js";
import { asModelError } from "./folder-reader.js";
import {
  chooseGraphs,
  type GraphFiles,
  mapSubModels,
  type PerSubModel,
  type Precision,
  type SubModelName,
} from "./graph-files.js";
import { buildClip } from "./graphs/clip.js";
import { type BuiltGraph, type ComputeType, createGraphBuilder, type GraphBuilder } from "./graphs/graph-builder.js";
import { operatorsFor } from "./graphs/operators.js";
import { buildUnet } from "./graphs/unet.js";
import { buildVaeDecoder, buildVaeEncoder } from "./graphs/vae.js";
import { type LoraGraphs, readLoras, rejectLoras } from "./lora-graphs.js";
import type { ModelDescription, SafetensorsForm } from "./model-description.js";
import type { BuiltGraphSource, GraphSource, Residence } from "./sessions.js";
import type { WeightFolder } from "./weights/diffusers-weights.js";
import type { LoraSource } from "./weights/lora.js";
import type { LoraPart } from "./weights/lora-names.js";
import {
  checkNothingLeft,
  findNonFinite,
  hasChanged,
  parametersOf,
  WeightError,
  type WeightSource,
} from "./weights/tensor-location.js";

/** The graphs of a model of safetensors, and a check that its files are still those that the graphs were built over. */
export interface BuiltGraphs {
  readonly graphs: PerSubModel<BuiltGraphSource>;
  readonly loras: LoraGraphs;
  /** @throws ModelFolderError when a file was replaced or changed meanwhile. */
  checkUnchanged(): Promise<void>;
  /** Reads all weights to check whether they have infinities or NaN. @throws ModelFolderError when they have */
  checkNumbers(): Promise<void>;
  /** Where the weights are to be, and why. */
  readonly precision: string;
  readonly weights: { readonly parameters: number; readonly bytes: number };
}

/** Parts of a VAE that images are not decoded with. */
const encoderPart = /^(?:first_stage_model\.)?(?:encoder|quant_conv)\./;
/** And those that images are not encoded with. */
const decoderPart = /^(?:first_stage_model\.)?(?:decoder|post_quant_conv)\./;

/**
 * Builds the graphs of a model over its weights, which stay where they are.
 *
 * @throws ModelFolderError when a tensor is missing, left over, or not as its part needs it; LoraError when a LoRA cannot be used.
 */
export async function buildGraphs(
  model: ModelDescription,
  form: SafetensorsForm,
  options: GraphsOptions,
): Promise<BuiltGraphs> {
  const { provider, precision } = options;
  const half = precision !== "float32";
  const weights = await form.readWeights(half);
  // The kernels of a CPU compute in float32 for any graph.
  const compute: ComputeType = half && provider !== "cpu" ? "float16" : "float32";
  const operators = operatorsFor(provider);
  const { plans } = form;
  const { residence, reason } = planResidence(weights, options);
  const make = (
    subModel: SubModelName,
    source: WeightSource,
    build: (g: GraphBuilder) => BuiltGraph,
    more: { readonly compute?: ComputeType; readonly mayBeLeft?: RegExp } = {},
  ): { readonly graph: BuiltGraphSource; readonly layers: BuiltGraph["layers"] } => {
    const root = rootOf(source);
    const built = build(createGraphBuilder({ weights: source, compute: more.compute ?? compute, root, operators }));
    checkNothingLeft(source, built.used, more.mayBeLeft);
    const { model, layers } = built;
    const graph = { kind: "built", subModel, file: source.label, model, root, residence: residence(subModel) } as const;
    return { graph, layers };
  };
  const builders: Readonly<Record<LoraPart, (g: GraphBuilder) => BuiltGraph>> = {
    text_encoder: (g) => buildClip(g, plans.textEncoders[0]),
    text_encoder_2: (g) => buildClip(g, plans.textEncoders[1]),
    unet: (g) => buildUnet(g, plans.unet),
  };
  // SDXL's own VAE overflows in half precision.
  const vaeCompute = model.vae.force_upcast ? "float32" : compute;
  try {
    const made = {
      text_encoder: make("text_encoder", weights.text_encoder, builders.text_encoder),
      text_encoder_2: make("text_encoder_2", weights.text_encoder_2, builders.text_encoder_2),
      unet: make("unet", weights.unet, builders.unet),
      vae_decoder: make("vae_decoder", weights.vae, (g) => buildVaeDecoder(g, plans.vae), {
        mayBeLeft: encoderPart,
        compute: vaeCompute,
      }),
      // Some checkpoints hold what images are decoded with alone.
      ...(weights.vae.find("encoder.conv_in.weight") !== undefined && {
        vae_encoder: make("vae_encoder", weights.vae, (g) => buildVaeEncoder(g, plans.vae), {
          mayBeLeft: decoderPart,
          compute: vaeCompute,
        }),
      }),
    };
    const loras = await readLoras(options.loras ?? [], {
      weights,
      builders,
      layers: {
        text_encoder: made.text_encoder.layers,
        text_encoder_2: made.text_encoder_2.layers,
        unet: made.unet.layers,
      },
      compute,
      provider,
    });
    return {
      graphs: mapSubModels(made, ({ graph }) => graph),
      loras,
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

export interface GraphsOptions extends ResidenceOptions {
  /** LoRAs that requests can name, each name once. @default none */
  readonly loras?: readonly LoraSource[] | undefined;
}

export interface ResidenceOptions {
  readonly precision: Precision;
  readonly provider: ExecutionProvider;
  /** Bytes of memory that the process may take. @default the free memory of the machine or container */
  readonly availableBytes?: number | undefined;
}

/** Residence of each sub-model's weights, and the reason. */
export interface ResidencePlan {
  readonly residence: (subModel: SubModelName) => Residence;
  /** Text for the log. */
  readonly reason: string;
}

/** Parameters below which both forms load equally fast, so the form that runs faster is used. */
const smallParameters = 200e6;
/** Share of the free memory that weights may use; the rest is for images and other processes. */
const memoryShare = 0.6;

/**
 * Decides where the weights of each part are while the model is loaded, on a CPU. `auto` prepares what is small, and leaves what is of
 * SDXL's own size in its files: there a prepared UNet takes 10.8 GB instead of 0.3 and five times as long to load, for a twentieth of a
 * step's time (docs/full-size.md).
 */
export function planResidence(
  weights: Readonly<Record<WeightFolder, WeightSource>>,
  { precision, provider, availableBytes = process.availableMemory?.() ?? freemem() }: ResidenceOptions,
): ResidencePlan {
  if (provider !== "cpu") {
    const type = precision === "float32" ? "float32" : "float16";
    return { residence: () => "prepared", reason: `${type} weights in the memory of ${provider}` };
  }
  const parameters = Object.values(weights).reduce((sum, { tensors }) => sum + parametersOf(tensors), 0);
  const needed = 4 * parameters;
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
  const mapped = (why: string): ResidencePlan => ({
    residence: () => "mapped",
    reason: `weights in their files: ${why}`,
  });
  const prepared = (why: string): ResidencePlan => ({
    residence: () => "prepared",
    reason: `float32 weights in memory, ${gigabytes(needed)}: ${why}`,
  });
  if (precision === "float32") {
    return prepared("--precision float32");
  }
  if (precision === "float16") {
    return mapped("--precision float16");
  }
  return parameters <= smallParameters && needed <= memoryShare * availableBytes
    ? prepared("a small model")
    : mapped(`${gigabytes(needed)} as float32 in memory would be hardly faster`);
}

/** The graphs of a model, ready to be opened. */
export interface PreparedGraphs {
  readonly graphs: PerSubModel<GraphSource>;
  /** Undefined for exported graphs, which LoRAs cannot change. */
  readonly loras?: LoraGraphs;
  /** To be called once they are open. @throws ModelFolderError when a file of weights was replaced meanwhile. */
  checkUnchanged(): Promise<void>;
  /** To be called when an image has no numbers in it. @throws ModelFolderError when the weights have such values */
  checkNumbers(): Promise<void>;
  /** What was chosen, and why, for the log. */
  readonly precision: string;
  /** How many numbers the weights are, and how many bytes their files; undefined for exported graphs. */
  readonly weights?: { readonly parameters: number; readonly bytes: number };
}

/** Builds or finds the graphs of a model for a place to run. @throws ModelFolderError, LoraError */
export async function prepareGraphs(model: ModelDescription, options: GraphsOptions): Promise<PreparedGraphs> {
  if (model.form.kind === "onnx") {
    rejectLoras(options.loras ?? [], model.name);
    const files = await chooseGraphs(model, options);
    return {
      graphs: mapSubModels(
        files,
        (file, subModel): GraphSource => ({ kind: "exported", subModel, file, path: join(model.path, file) }),
      ),
      checkUnchanged: async () => {},
      checkNumbers: async () => {},
      precision: "as exported",
    };
  }
  return buildGraphs(model, model.form, options);
}

/** The files of graphs, or of the weights that graphs were built over: paths inside the model's folder. */
export function filesOf(graphs: PreparedGraphs["graphs"]): GraphFiles {
  return mapSubModels(graphs, ({ file }) => file);
}
