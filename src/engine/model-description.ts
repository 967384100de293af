import type { ClipTokenizer } from "./clip-tokenizer.js";
import type { ClipPlan } from "./graphs/clip.js";
import type { UnetPlan } from "./graphs/unet.js";
import type { VaePlan } from "./graphs/vae.js";
import type { TextEncoderConfig, ThroughlineConfig, UnetConfig, VaeConfig } from "./model-config.js";
import type { WeightFolder } from "./weights/diffusers-weights.js";
import type { WeightSource } from "./weights/tensor-location.js";

/** Everything in an SDXL model besides its weights, read and checked. */
export interface ModelDescription {
  /** Absolute path of the folder, or of the file. */
  readonly path: string;
  /** The name of the folder or file; `owner/name` for what lies in the cache of the Hugging Face Hub. */
  readonly name: string;
  /** The kind of model: `SDXL`, or a distilled one of it, such as `SDXL Turbo`. */
  readonly family: string;
  /** How its weights are stored. */
  readonly form: ModelForm;
  readonly forceZerosForEmptyPrompt: boolean;
  readonly tokenizers: readonly [ClipTokenizer, ClipTokenizer];
  readonly textEncoders: readonly [TextEncoderConfig, TextEncoderConfig];
  readonly unet: UnetConfig;
  readonly vae: VaeConfig;
  /** Class name and raw configuration of the model's own scheduler. */
  readonly scheduler: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
  readonly throughline: ThroughlineConfig;
  /** Steps and guidance scale of a distilled model; undefined for an ordinary one. */
  readonly distilled: SamplingDefaults | undefined;
  /** Assumptions about values that the model does not contain, a line each. */
  readonly assumptions: readonly string[];
}

export type ModelForm =
  /** Graphs that another program exported. */
  { readonly kind: "onnx" } | SafetensorsForm;

/** Weights that the engine builds its graphs over. */
export interface SafetensorsForm {
  readonly kind: "safetensors";
  /** Where the weights lie. @param half prefers half precision where there are both. @throws ModelFolderError */
  readWeights(half: boolean): Promise<Readonly<Record<WeightFolder, WeightSource>>>;
  readonly plans: {
    readonly textEncoders: readonly [ClipPlan, ClipPlan];
    readonly unet: UnetPlan;
    readonly vae: VaePlan;
  };
}

/** Defaults of a kind of model, and how the kind was recognized. */
export interface SamplingDefaults {
  readonly steps: number;
  readonly guidanceScale: number;
  /** Reason for the log, such as `the file's name says Turbo`. */
  readonly reason: string;
}

/** What is known about a model without running it. */
export interface ModelTraits {
  /** `owner/name`, the name of the folder, or that of the file. */
  readonly name: string;
  /** What the maker of a safetensors file wrote into it. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly schedulerClass: string;
  /** Whether the UNet takes the guidance scale as an input. */
  readonly guidanceEmbedding: boolean;
}

/** Kinds of distilled models, by the words in their names. */
export type DistilledKind = "Turbo" | "Lightning" | "LCM";

/** Maximum number of steps that is read from a name. */
const mostSteps = 8;

/** The kind by the name or the metadata of a file; undefined for an ordinary model. */
export function distilledKind({ name, metadata }: Pick<ModelTraits, "name" | "metadata">): DistilledKind | undefined {
  const words = [name, metadata["modelspec.title"] ?? "", metadata["ss_output_name"] ?? ""].join(" ");
  if (/lightning/i.test(words)) {
    return "Lightning";
  }
  if (/(?<![a-z])lcm(?![a-z])|latent[-_ ]?consistency/i.test(words)) {
    return "LCM";
  }
  return /turbo/i.test(words) ? "Turbo" : undefined;
}

/**
 * The usual steps and guidance scale of SDXL's distilled descendants, from their model cards; undefined for an ordinary model.
 * Sources: stabilityai/sdxl-turbo, ByteDance/SDXL-Lightning, latent-consistency/lcm-sdxl and lcm-lora-sdxl.
 */
export function distilledDefaults(traits: ModelTraits): SamplingDefaults | undefined {
  if (traits.guidanceEmbedding) {
    return { steps: 4, guidanceScale: 8, reason: "its UNet takes the guidance scale as an input, as LCM's does" };
  }
  const kind = distilledKind(traits);
  const steps = stepsInName(traits.name) ?? 4;
  switch (kind) {
    case "Turbo":
    case "Lightning":
      return { steps, guidanceScale: 0, reason: `its name or metadata says ${kind}` };
    case "LCM":
      return { steps, guidanceScale: 1, reason: "its name or metadata says LCM" };
    case undefined:
      return traits.schedulerClass === "LCMScheduler"
        ? { steps: 4, guidanceScale: 1, reason: "its scheduler is LCMScheduler" }
        : undefined;
  }
}

/** `sdxl_lightning_8step` is made for eight. */
function stepsInName(name: string): number | undefined {
  const steps = Number(/(\d+)[-_ ]?steps?(?![a-z])/i.exec(name)?.[1] ?? Number.NaN);
  return steps >= 1 && steps <= mostSteps ? steps : undefined;
}

/** What a kind of model is called. */
export function familyName(kind: DistilledKind | undefined): string {
  return kind === undefined ? "SDXL" : `SDXL ${kind}`;
}

/** What a scheduler's configuration needs for a kind, where a checkpoint of one file brings none. */
export function distilledScheduler(kind: DistilledKind | undefined, name: string): Readonly<Record<string, unknown>> {
  switch (kind) {
    case "Turbo":
      return { _class_name: "EulerAncestralDiscreteScheduler", timestep_spacing: "trailing" };
    case "Lightning":
      // The one for a single step predicts the image itself, and has that in its name.
      return { timestep_spacing: "trailing", ...(/x0/i.test(name) && { prediction_type: "sample" }) };
    case "LCM":
      return { _class_name: "LCMScheduler", original_inference_steps: 50 };
    case undefined:
      return {};
  }
}
