import type { SchedulerName } from "./schedulers.js";

/** What the painter is asked for. Absent fields mean the model's own default. */
export interface PaintRequest {
  /** Text to paint; longer than the tokenizers' limit is cut, and the result says by how much. */
  readonly prompt: string;
  /** Absent: zero embeddings or an encoded empty text, as `force_zeros_for_empty_prompt` of the model says. */
  readonly negativePrompt?: string | undefined;
  /** Pixels. */
  readonly width?: number | undefined;
  /** Pixels. */
  readonly height?: number | undefined;
  readonly steps?: number | undefined;
  /**
   * Classifier-free guidance scale; 1 or less runs the UNet once a step instead of twice. A UNet that was distilled to guide
   * itself takes the scale as an input: it runs once a step too, and there is no negative prompt.
   */
  readonly guidanceScale?: number | undefined;
  /** 32-bit unsigned seed of the initial noise: the same noise as `torch.randn` on the CPU. */
  readonly seed: number;
  /** Absent: the scheduler in the model's folder. */
  readonly scheduler?: SchedulerName | undefined;
  /** A preview event every so many steps; absent or 0: none. */
  readonly previewInterval?: number | undefined;
}

export type { SchedulerName };

/** A request with every default filled in: what is really painted. */
export interface PaintSettings {
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidanceScale: number;
  readonly seed: number;
  readonly scheduler: SchedulerName;
}

/** What a painting goes through, in this order. */
export type PaintStage = "text-encoding" | "denoising" | "vae-decode";

/** 8-bit RGB, row by row from the top, three bytes a pixel. */
export interface Pixels {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Milliseconds per stage. */
export interface PaintTimings {
  readonly textEncodingMs: number;
  readonly denoisingMs: number;
  readonly vaeDecodeMs: number;
}

/** Progress of one image, in order: settings, then stages with their steps. */
export type PaintEvent =
  | { readonly kind: "settings"; readonly settings: PaintSettings }
  | { readonly kind: "stage"; readonly stage: PaintStage }
  | {
      readonly kind: "step";
      readonly step: number;
      readonly totalSteps: number;
      readonly preview?: Pixels | undefined;
    };

/** A generated image, and what it took. */
export interface GeneratedImage {
  readonly pixels: Pixels;
  readonly timings: PaintTimings;
  /** Tokens of the prompt that did not fit, of the tokenizer that lost more. */
  readonly truncatedTokens: number;
  readonly promptCache: PromptCacheUse;
}

/** What a loaded model can take, as plain data: enough to check a request, and to know its cost, far from the model. */
export interface PaintLimits {
  readonly sizes: SizeRules;
  /** The scheduler of the model's folder. */
  readonly ownScheduler: SchedulerName;
  /** The schedulers that the model can be painted with, the own one among them. */
  readonly schedulers: Readonly<Partial<Record<SchedulerName, StepLimits>>>;
  readonly defaultGuidanceScale: number;
  /**
   * How the model is guided. `second-run`: above a scale of 1 the UNet is evaluated twice a step. `embedded`: the UNet was distilled to
   * guide itself, once a step whatever the scale.
   */
  readonly guidance: "second-run" | "embedded";
}

/** How many steps a scheduler takes. */
export interface StepLimits {
  readonly defaultSteps: number;
  readonly maximumSteps: number;
}

/** Of the prompt and, where it is encoded, the negative prompt: how many were encoded before and kept, and how many were not. */
export interface PromptCacheUse {
  readonly hits: number;
  readonly misses: number;
}

/** What is known once a model is loaded. */
export interface EngineInfo {
  /** Name of the model: its folder's name, or its id on the Hugging Face Hub. */
  readonly model: string;
  /** onnxruntime execution provider that runs the sessions, such as `cpu`. */
  readonly executionProvider: string;
  readonly limits: PaintLimits;
}

/** How one image is generated. */
export interface GenerateOptions {
  /** Aborting it stops before the next run of a sub-model. */
  readonly signal: AbortSignal;
  /** Called with each event, in order. It must not throw. */
  readonly onEvent?: ((event: PaintEvent) => void) | undefined;
}

/** A model on one device. It generates one image at a time; the caller queues. */
export interface Engine {
  readonly info: EngineInfo;
  /**
   * Generates one image.
   *
   * @throws PaintError when the request does not fit the model or the model fails; the signal's reason when it is aborted.
   */
  generate(request: PaintRequest, options: GenerateOptions): Promise<GeneratedImage>;
}

/** Which lengths one side of a picture can have, in pixels. */
export interface SideRule {
  /** Every length is a multiple of it. */
  readonly step: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly default: number;
}

/** Which pictures a model can paint. */
export interface SizeRules {
  readonly width: SideRule;
  readonly height: SideRule;
  /** Pixels per latent, each way. */
  readonly vaeFactor: number;
}

/**
 * Why a painting failed, as the caller may see it:
 * `unsupported`: the model cannot take this request; `field` names what, and the message says which values it takes.
 * `lost`: the engine process died; the same request may succeed elsewhere.
 * `failed`: the model ran and its result is unusable, or it ran out of memory.
 */
export type PaintErrorKind = "unsupported" | "lost" | "failed";

/** The one error of the painter. Its message is fit for callers: no prompt, no path. The cause is for the log. */
export class PaintError extends Error {
  override readonly name = "PaintError";
  readonly kind: PaintErrorKind;
  /** Request field that does not fit, such as `width`; only with kind `unsupported`. */
  readonly field: keyof PaintRequest | undefined;
  /** Whether the process died while it painted this very request, which may be why; only with kind `lost`. */
  readonly whilePainting: boolean;

  constructor(
    kind: PaintErrorKind,
    message: string,
    options: ErrorOptions & { field?: keyof PaintRequest; whilePainting?: boolean } = {},
  ) {
    super(message, options);
    this.kind = kind;
    this.field = options.field;
    this.whilePainting = options.whilePainting ?? false;
  }
}
