import type { SchedulerName } from "./schedulers.js";

/** A request for an image. Absent fields mean the model's default. */
export interface GenerationRequest {
  /** Prompt text. Text beyond the tokenizers' limit is truncated; the result has the number of truncated tokens. */
  readonly prompt: string;
  /** Absent: zero embeddings or an encoded empty text, by `force_zeros_for_empty_prompt` of the model. */
  readonly negativePrompt?: string | undefined;
  /** Pixels. */
  readonly width?: number | undefined;
  /** Pixels. */
  readonly height?: number | undefined;
  readonly steps?: number | undefined;
  /**
   * Classifier-free guidance scale; 1 or less runs the UNet once a step instead of twice. A UNet with
   * guidance embedding takes the scale as an input: it runs once a step too, and there is no negative prompt.
   */
  readonly guidanceScale?: number | undefined;
  /** 32-bit unsigned seed of the initial noise: the same noise as `torch.randn` on the CPU. */
  readonly seed: number;
  /** Absent: the scheduler in the model's folder. */
  readonly scheduler?: SchedulerName | undefined;
  /** Steps between two preview events; absent or 0: none. */
  readonly previewInterval?: number | undefined;
  /**
   * Layers that both text encoders leave out for the prompt, besides the last one, as diffusers' `clip_skip`. The negative prompt always has
   * those of 0, as there. @default 0
   */
  readonly clipSkip?: number | undefined;
  /** Part of the guided prediction that is rescaled, 0 to 1: see `rescale` in denoiser.ts. No effect without guidance. @default 0 */
  readonly guidanceRescale?: number | undefined;
  /** Image to start from, of the width and height of the request. Absent: noise alone. */
  readonly initImage?: Pixels | undefined;
  /** How far the result may leave `initImage`, 0 to 1: the share of the steps that runs. @default 0.3 */
  readonly strength?: number | undefined;
  /** LoRAs to apply, each name once. Absent: none. */
  readonly loras?: readonly LoraChoice[] | undefined;
}

/** A LoRA that a request names. */
export interface LoraChoice {
  readonly name: string;
  /** Factor of its change to the weights. Absent: its default. */
  readonly scale?: number | undefined;
}

/** A LoRA with its scale: as it is applied to a request, or by default. */
export interface ScaledLora {
  readonly name: string;
  readonly scale: number;
}

export type { SchedulerName };

/** A request with every default filled in. */
export interface GenerationSettings {
  readonly width: number;
  readonly height: number;
  /** Those that `strength` leaves out included. */
  readonly steps: number;
  /** Of a request with an image; undefined without one. */
  readonly strength?: number | undefined;
  readonly guidanceScale: number;
  readonly seed: number;
  readonly scheduler: SchedulerName;
  readonly clipSkip: number;
  readonly guidanceRescale: number;
  /** Absent if the request has none. */
  readonly loras?: readonly ScaledLora[];
}

/** Stages of a request, in this order. `vae-encode` is that of a request with an image alone. */
export type GenerationStage = "text-encoding" | "vae-encode" | "denoising" | "vae-decode";

/** 8-bit RGB, row by row from the top, three bytes a pixel. */
export interface Pixels {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Milliseconds per stage. */
export interface GenerationTimings {
  readonly textEncodingMs: number;
  /** Encoding of the image to start from. @default 0 */
  readonly vaeEncodeMs?: number | undefined;
  readonly denoisingMs: number;
  readonly vaeDecodeMs: number;
}

/** Progress of one image, in order: settings, then stages with their steps. */
export type GenerationEvent =
  | { readonly kind: "settings"; readonly settings: GenerationSettings }
  | { readonly kind: "stage"; readonly stage: GenerationStage }
  | {
      readonly kind: "step";
      readonly step: number;
      /** Steps that run. */
      readonly totalSteps: number;
      readonly preview?: Pixels | undefined;
    };

/** A generated image, with its timings. */
export interface GeneratedImage {
  readonly pixels: Pixels;
  readonly timings: GenerationTimings;
  /** Prompt tokens that were truncated; the maximum over the tokenizers. */
  readonly truncatedTokens: number;
  readonly promptCache: PromptCacheUse;
}

/** Limits of a loaded model, as plain data, to validate a request and estimate its cost without the model. */
export interface GenerationLimits {
  readonly sizes: SizeRules;
  /** The scheduler of the model's folder. */
  readonly ownScheduler: SchedulerName;
  /** Schedulers that the model supports, its own included. */
  readonly schedulers: Readonly<Partial<Record<SchedulerName, StepLimits>>>;
  readonly defaultGuidanceScale: number;
  /**
   * Guidance method. `second-run`: two UNet evaluations per step if the scale is above 1. `embedded`: the UNet is guidance-distilled; one
   * evaluation per step at any scale.
   */
  readonly guidance: "second-run" | "embedded";
  /** Largest `clipSkip`. 0 if the text encoders were exported without the hidden states of earlier layers. */
  readonly maximumClipSkip: number;
  /** LoRAs that requests can name, with their default scales. Absent: the model cannot have any, as its graphs are exported ones. */
  readonly loras?: readonly ScaledLora[];
  /** Whether the model has a VAE encoder, and so takes an image to start from. @default false */
  readonly imageToImage?: boolean | undefined;
}

/** Default and maximum number of steps of a scheduler. */
export interface StepLimits {
  readonly defaultSteps: number;
  readonly maximumSteps: number;
}

/** Prompt cache hits and misses of one request: the prompt and, if encoded, the negative prompt. */
export interface PromptCacheUse {
  readonly hits: number;
  readonly misses: number;
}

/** Facts of a loaded model. */
export interface EngineInfo {
  /** Name of the model: its folder's name, or its id on the Hugging Face Hub. */
  readonly model: string;
  /** onnxruntime execution provider that runs the sessions, such as `cpu`. */
  readonly executionProvider: string;
  readonly limits: GenerationLimits;
  /** Why the defaults are those of a distilled model; undefined for other models, and if the operator has set them. */
  readonly defaultsReason: string | undefined;
  /** Prompts that the model does well, from its `throughline.json`. */
  readonly examplePrompts: readonly string[];
}

/** How one image is generated. */
export interface GenerateOptions {
  /** Aborting it stops before the next run of a sub-model. */
  readonly signal: AbortSignal;
  /** Called with each event, in order. It must not throw. */
  readonly onEvent?: ((event: GenerationEvent) => void) | undefined;
}

/** A model on one device. It generates one image at a time; the caller queues. */
export interface Engine {
  readonly info: EngineInfo;
  /**
   * Generates one image.
   *
   * @throws GenerationError when the request does not fit the model or the model fails; the signal's reason when it is aborted.
   */
  generate(request: GenerationRequest, options: GenerateOptions): Promise<GeneratedImage>;
}

/** Which lengths one side of an image can have, in pixels. */
export interface SideRule {
  /** Every length is a multiple of it. */
  readonly step: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly default: number;
}

/** Which images a model can generate. */
export interface SizeRules {
  readonly width: SideRule;
  readonly height: SideRule;
  /** Pixels per latent, each way. */
  readonly vaeFactor: number;
}

/**
 * Why a generation failed, as the caller may see it:
 * `unsupported`: the model cannot take this request; `violations` name every wrong field and the values that it can have.
 * `lost`: the engine process died; the same request may succeed elsewhere.
 * `failed`: the model ran and its result is unusable, or it ran out of memory.
 */
export type GenerationErrorKind = "unsupported" | "lost" | "failed";

/** A request field that the model does not support. */
export interface FieldViolation {
  readonly field: keyof GenerationRequest;
  /** Place inside the field, such as `[0].name`. @default the field itself */
  readonly place?: string;
  /** The values that the field can have, such as `this model takes a multiple of 32 from 64 to 256`. */
  readonly message: string;
}

/** The engine's error. Its message is for callers: no prompt, no path. The cause is for the log. */
export class GenerationError extends Error {
  override readonly name = "GenerationError";
  readonly kind: GenerationErrorKind;
  /** Every field that does not fit; empty unless the kind is `unsupported`. */
  readonly violations: readonly FieldViolation[];
  /** Whether the process died while it generated this very request, which may be why; only with kind `lost`. */
  readonly whileGenerating: boolean;

  constructor(
    kind: GenerationErrorKind,
    message: string,
    options: ErrorOptions & { violations?: readonly FieldViolation[]; whileGenerating?: boolean } = {},
  ) {
    super(message, options);
    this.kind = kind;
    this.violations = options.violations ?? [];
    this.whileGenerating = options.whileGenerating ?? false;
  }
}
