import { filesOf, type PreparedGraphs, prepareGraphs } from "./build-graphs.js";
import { batchPays, createDenoiser, guidanceEmbedding, timeIds } from "./denoiser.js";
import type { ExecutionProvider } from "./device.js";
import {
  type Engine,
  type GeneratedImage,
  type GenerateOptions,
  GenerationError,
  type GenerationRequest,
  type GenerationSettings,
  type PromptCacheUse,
} from "./engine.js";
import { ModelFolderError } from "./folder-reader.js";
import {
  describeRule,
  fitsRule,
  generationLimits,
  needsSecondRun,
  resolveSettings,
  sizeRules,
} from "./generation-limits.js";
import type { GraphFiles, Precision } from "./graph-files.js";
import type { LoraNote } from "./lora-graphs.js";
import { createLoraSets } from "./lora-sets.js";
import type { ModelDescription } from "./model-description.js";
import { readModel } from "./model-folder.js";
import { createPromptEncoder, type EncodedPrompt } from "./prompt-encoder.js";
import type { SamplingImage } from "./scheduler.js";
import { loadSchedulers } from "./schedulers.js";
import type { OpenSession } from "./sessions.js";
import { createSessionOpener } from "./sessions-onnx.js";
import { stepsToRun } from "./strength.js";
import { maximumClipSkip, openSubModels, type SubModels } from "./sub-models.js";
import { createTorchGenerator, type NoiseGenerator } from "./torch-generator.js";
import { createLatentPreview, decodeLatents } from "./vae-decoder.js";
import { createVaeEncoder } from "./vae-encoder.js";
import type { LoraSource } from "./weights/lora.js";

/** A loaded model. It blocks its thread while a sub-model runs, so it needs a process of its own. */
export interface SdxlEngine extends Engine {
  /** The graphs that are loaded, or the weights that they were built over. */
  readonly graphs: GraphFiles;
  readonly notes: EngineNotes;
  /** Runs every sub-model once, on the smallest image, and finds out what only a run shows. @throws GenerationError */
  warmUp(): Promise<void>;
  /** Frees the sessions. Not while an image is generated. */
  release(): Promise<void>;
}

/** Decisions of an engine about its model, for the log. */
export interface EngineNotes {
  /** The kind of model: `SDXL`, or a distilled one of it. */
  readonly family: string;
  /** Weights of safetensors: how many numbers, and bytes of their files. Unknown for exported graphs. */
  readonly weights?: { readonly parameters: number; readonly bytes: number };
  /** Where its weights are, and why. */
  readonly precision: string;
  /** Why the default steps and guidance scale are not SDXL's own. */
  readonly defaults?: string;
  readonly assumptions: readonly string[];
  readonly loras?: readonly LoraNote[];
}

export interface SdxlEngineOptions {
  /** A folder of safetensors or of ONNX graphs, a checkpoint of one file, or what was read of one of them. */
  readonly modelFolder: string | ModelDescription;
  /** What to run it in. @default "auto" */
  readonly precision?: Precision | undefined;
  /** LoRAs that requests can name, each name once. @default none */
  readonly loras?: readonly LoraSource[] | undefined;
  /** Resident bytes of the process above which its host ends it: sets of LoRAs are closed before. @default without limit */
  readonly maxMemoryBytes?: number | undefined;
  /** Where `openSession` runs the graphs. @default "cpu" */
  readonly provider?: ExecutionProvider;
  /** Loads the graphs. @default onnxruntime on the CPU, with as many threads as the process may use */
  readonly openSession?: OpenSession;
}

/**
 * Loads an SDXL model and makes the worker of it. Nothing is fixed for one model: channels, widths, sizes, element types and
 * schedules come from the folder's files and graphs.
 *
 * @throws ModelFolderError when the folder is missing something or wrong; LoraError when a LoRA cannot be used.
 */
export async function loadSdxlEngine(options: SdxlEngineOptions): Promise<SdxlEngine> {
  const { modelFolder, precision = "auto", provider = "cpu", maxMemoryBytes = Number.POSITIVE_INFINITY } = options;
  const model = typeof modelFolder === "string" ? await readModel(modelFolder) : modelFolder;
  const schedulers = loadSchedulers(model);
  const prepared = await prepareGraphs(model, { precision, provider, loras: options.loras });
  const { openSession = createSessionOpener() } = options;
  const subModels = await openSubModels(model, prepared.graphs, openSession);
  const { vaeEncoder: encoder } = subModels;
  const vaeEncoder =
    encoder.kind === "ready"
      ? createVaeEncoder(model.vae, async () => {
          const session = await encoder.open();
          await prepared.checkUnchanged();
          return session;
        })
      : undefined;
  const loraSets =
    prepared.loras &&
    createLoraSets({
      base: subModels,
      graphs: prepared.loras,
      openSession,
      // Elsewhere a set is a copy of the weights in the device's memory.
      capacity: provider === "cpu" ? 2 : 1,
      hasRoom: (bytes) => process.memoryUsage.rss() + bytes <= maxMemoryBytes,
      checkUnchanged: prepared.checkUnchanged,
    });
  const release = async () => {
    const { textEncoders, unet, vaeDecoder } = subModels;
    await loraSets?.release();
    await Promise.all([...textEncoders, unet, vaeDecoder, vaeEncoder].map((part) => part?.release()));
  };
  await prepared.checkUnchanged().catch(async (error: unknown) => {
    await release();
    throw error;
  });
  const sizes = sizeRules(model, subModels.unet.inputs.get("sample"));
  for (const side of ["width", "height"] as const) {
    if (!fitsRule(sizes[side].default, sizes[side])) {
      const fault = {
        expected: `a default ${side} that is ${describeRule(sizes[side])}`,
        found: `${sizes[side].default}`,
      };
      throw new ModelFolderError(model.path, { file: "throughline.json", ...fault });
    }
  }
  const limits = generationLimits(model, {
    sizes,
    schedulers,
    maximumClipSkip: maximumClipSkip(model, subModels),
    imageToImage: vaeEncoder !== undefined,
    loras: prepared.loras?.notes,
  });
  const prompts = createPromptEncoder(model, subModels);
  const channels = model.vae.latent_channels;
  const guidanceWidth = model.unet.time_cond_proj_dim ?? undefined;
  const preview = createLatentPreview(model.vae, model.throughline);

  /** Latents of an image to start from, and after how many steps they are joined. */
  async function encodeImage(
    { initImage }: GenerationRequest,
    settings: GenerationSettings,
    { generator, signal, onEvent }: GenerateOptions & { readonly generator: NoiseGenerator },
  ): Promise<SamplingImage | undefined> {
    if (initImage === undefined || vaeEncoder === undefined) {
      return undefined;
    }
    const { width, height, steps } = settings;
    if (initImage.width !== width || initImage.height !== height) {
      throw new Error(`the image is ${initImage.width}×${initImage.height} for a result of ${width}×${height}`);
    }
    onEvent?.({ kind: "stage", stage: "vae-encode" });
    const latents = await vaeEncoder.encode(initImage, generator, signal);
    return { latents, skippedSteps: steps - stepsToRun(settings) };
  }

  /** The story of diffusers' `StableDiffusionXLPipeline.__call__`, under its numbers; with an image, of its image-to-image pipeline. */
  async function generate(request: GenerationRequest, { signal, onEvent }: GenerateOptions): Promise<GeneratedImage> {
    // 1. and 2. Check the request and fill in the defaults.
    signal.throwIfAborted();
    const settings = resolveSettings(request, limits);
    const { width, height, steps, guidanceScale, seed, clipSkip, guidanceRescale } = settings;
    const sampler = schedulers.byName.get(settings.scheduler);
    if (sampler === undefined) {
      throw new Error(`no sampler for ${settings.scheduler}, which the limits name`);
    }
    onEvent?.({ kind: "settings", settings });

    // What `load_lora_weights` and `set_adapters` do before the call.
    const adapted = (await loraSets?.open(settings.loras ?? [], signal)) ?? { ...subModels, textKey: "" };

    // 3. Encode the prompt and, for classifier-free guidance, the negative prompt.
    const started = performance.now();
    onEvent?.({ kind: "stage", stage: "text-encoding" });
    const positive = await prompts.encode(request.prompt, { signal, clipSkip, adapted });
    const guided = needsSecondRun(settings, limits);
    const zeroed = request.negativePrompt === undefined && model.forceZerosForEmptyPrompt;
    const opposite =
      guided && !zeroed ? await prompts.encode(request.negativePrompt ?? "", { signal, adapted }) : undefined;
    const negative = guided && zeroed ? prompts.zerosLike(positive) : opposite;

    // 4. and 5. Timesteps, and latents: of pure noise at the first noise level, or of an image with noise at a later one.
    const encoded = performance.now();
    const latentShape = [1, channels, height / sizes.vaeFactor, width / sizes.vaeFactor];
    const latentCount = latentShape.reduce((product, length) => product * length);
    const generator = createTorchGenerator(seed);
    const drawNoise = () => generator.randn(latentCount);
    const image = await encodeImage(request, settings, { generator, signal, onEvent });
    const begun = performance.now();
    onEvent?.({ kind: "stage", stage: "denoising" });
    let state = sampler.begin({ steps, noise: drawNoise(), drawNoise, image });

    // 7. SDXL's size conditioning, and the guidance embedding of a UNet that takes one.
    const denoise = createDenoiser(adapted.unet, {
      latentShape,
      positive,
      negative,
      guidanceScale,
      guidanceRescale,
      timeIds: timeIds(width, height),
      guidanceEmbedding: guidanceWidth === undefined ? undefined : guidanceEmbedding(guidanceScale, guidanceWidth),
      batchGuidance: batchPays(provider, latentShape),
    });

    // 8. The denoising loop.
    for (let step = 1; state.kind === "step"; step++) {
      const { next, predictedClean } = state.advance(await denoise(state.modelInput, state.timestep, signal));
      state = next;
      const shown = request.previewInterval ? step % request.previewInterval === 0 : false;
      onEvent?.({
        kind: "step",
        step,
        totalSteps: stepsToRun(settings),
        ...(shown && preview !== undefined && { preview: preview({ data: predictedClean, shape: latentShape }) }),
      });
    }

    // 9. Decode the latents.
    const denoised = performance.now();
    onEvent?.({ kind: "stage", stage: "vae-decode" });
    const latents = { data: state.latents, shape: latentShape };
    const pixels = await decodeLatents(subModels.vaeDecoder, model.vae, latents, signal);
    return {
      pixels,
      timings: {
        textEncodingMs: encoded - started,
        ...(image !== undefined && { vaeEncodeMs: begun - encoded }),
        denoisingMs: denoised - begun,
        vaeDecodeMs: performance.now() - denoised,
      },
      truncatedTokens: positive.truncatedTokens,
      promptCache: countHits(opposite === undefined ? [positive] : [positive, opposite]),
    };
  }

  return {
    info: {
      model: model.name,
      executionProvider: provider,
      limits,
      defaultsReason: defaultsReasonOf(model),
      examplePrompts: model.throughline.examplePrompts ?? [],
    },
    graphs: filesOf(prepared.graphs),
    notes: notesOn(model, prepared, encoder),
    generate,
    async warmUp() {
      const { width, height } = sizes;
      const smallest = { width: width.minimum, height: height.minimum, steps: 1, guidanceScale: 2, seed: 0 };
      try {
        await generate({ prompt: "", ...smallest }, { signal: new AbortController().signal });
      } catch (error) {
        // Without a cause, the model ran, and its result has no numbers.
        if (error instanceof GenerationError && error.kind === "failed" && error.cause === undefined) {
          await prepared.checkNumbers();
        }
        throw error;
      }
    },
    release,
  };
}

function notesOn(
  model: ModelDescription,
  { precision, weights, loras }: PreparedGraphs,
  encoder: SubModels["vaeEncoder"],
): EngineNotes {
  const { distilled, family } = model;
  const assumptions = [...model.assumptions, ...(encoder.kind === "unusable" ? [encoder.reason] : [])];
  const reason = defaultsReasonOf(model);
  return {
    family,
    precision,
    assumptions,
    ...(weights !== undefined && { weights }),
    ...(loras !== undefined && loras.notes.length > 0 && { loras: loras.notes }),
    ...(reason !== undefined && {
      defaults: `${distilled?.steps} steps at guidance ${distilled?.guidanceScale}: ${reason}`,
    }),
  };
}

/** Why the defaults are those of a distilled model; undefined for other models, and if throughline.json sets them. */
function defaultsReasonOf({ distilled, throughline }: ModelDescription): string | undefined {
  const isSet = (throughline.defaultSteps ?? throughline.defaultGuidanceScale) !== undefined;
  return isSet ? undefined : distilled?.reason;
}

function countHits(prompts: readonly EncodedPrompt[]): PromptCacheUse {
  const hits = prompts.filter(({ cached }) => cached).length;
  return { hits, misses: prompts.length - hits };
}
