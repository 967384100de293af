import type { ClipTokenizer } from "./clip-tokenizer.js";
import type { SamplingDefaults } from "./distilled.js";
import type { ClipPlan } from "./graphs/clip.js";
import type { UnetPlan } from "./graphs/unet.js";
import type { VaePlan } from "./graphs/vae.js";
import type { TextEncoderConfig, ThroughlineConfig, UnetConfig, VaeConfig } from "./model-config.js";
import type { WeightFolder } from "./weights/diffusers-weights.js";
import type { WeightSource } from "./weights/tensor-location.js";

/** All that an SDXL model says besides its weights, read and checked. */
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
  /** What had to be assumed because the model does not say it, a line each. */
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
