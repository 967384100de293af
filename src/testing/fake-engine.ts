import type { GenerationLimits, GenerationRequest, GenerationSettings, Pixels } from "../engine/engine.js";
import { resolveSettings } from "../engine/generation-limits.js";
import { describeLora } from "../engine/lora-choice.js";
import { stepsToRun } from "../engine/strength.js";
import { requestLimits } from "../request-limits.js";
import type { ManagedEngine } from "../worker/worker-app.js";

/** Options of {@link createFakeEngine}. */
export interface FakeEngineOptions {
  /** Name of the model. @default "fake" */
  readonly model?: string | undefined;
  /** Awaited before each step, counted from 1. Use it to pause a generation at a step, or throw to fail it. */
  readonly beforeStep?: (step: number, request: GenerationRequest, signal: AbortSignal) => Promise<void> | void;
  /** Limits of the engine. @default the contract's limits; 64×64 pixels and 4 steps if a request has none */
  readonly limits?: GenerationLimits;
  /** Names of its LoRAs, each with a default scale of 1. A request with some gets another pattern. @default none */
  readonly loras?: readonly string[];
}

/** An engine without a model, with counters for assertions. */
export interface FakeEngine extends ManagedEngine {
  /** Total steps run in all generations. */
  readonly stepsRun: number;
  /** Number of started generations. */
  readonly generations: number;
  /** Sets the engine's availability; false simulates a restart of its process. */
  setAvailable(available: boolean): void;
}

const { side: range } = requestLimits;
const side = { step: range.step, minimum: range.min, maximum: range.max, default: range.min };
const steps = { defaultSteps: 4, maximumSteps: requestLimits.steps.max };
const ownLimits: GenerationLimits = {
  sizes: { width: side, height: side, vaeFactor: 8 },
  ownScheduler: "euler-discrete",
  schedulers: {
    "euler-discrete": steps,
    "euler-ancestral": steps,
    "dpmpp-2m": steps,
    "dpmpp-2m-karras": steps,
    ddim: steps,
    lcm: steps,
    unipc: steps,
    "dpmpp-2m-sde": steps,
    "dpmpp-2m-sde-karras": steps,
  },
  defaultGuidanceScale: 5,
  guidance: "second-run",
  maximumClipSkip: 11,
  loras: [],
  imageToImage: true,
};

/**
 * Creates an engine that generates a deterministic pattern from the seed and the prompt, and mixes it with an initial image by the strength.
 *
 * Everything else is real: queue, cancellation, spans, encoding.
 */
export function createFakeEngine(options: FakeEngineOptions = {}): FakeEngine {
  const { model = "fake", loras = [] } = options;
  const limits: GenerationLimits = {
    ...(options.limits ?? ownLimits),
    ...(loras.length > 0 && { loras: loras.map((name) => ({ name, scale: 1 })) }),
  };
  const listeners = new Set<(available: boolean) => void>();
  let stepsRun = 0;
  let generations = 0;
  return {
    info: { model, executionProvider: "none", limits, defaultsReason: undefined, examplePrompts: ["a red heart"] },
    get stepsRun() {
      return stepsRun;
    },
    get generations() {
      return generations;
    },
    setAvailable(available) {
      for (const listener of listeners) {
        listener(available);
      }
    },
    onAvailabilityChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {},
    async generate(request, { signal, onEvent }) {
      generations++;
      const settings = resolveSettings(request, limits);
      onEvent?.({ kind: "settings", settings });
      signal.throwIfAborted();
      onEvent?.({ kind: "stage", stage: "text-encoding" });
      signal.throwIfAborted();
      if (request.initImage !== undefined) {
        onEvent?.({ kind: "stage", stage: "vae-encode" });
        signal.throwIfAborted();
      }
      const started = performance.now();
      onEvent?.({ kind: "stage", stage: "denoising" });
      const totalSteps = stepsToRun(settings);
      for (let step = 1; step <= totalSteps; step++) {
        signal.throwIfAborted();
        await options.beforeStep?.(step, request, signal);
        stepsRun++;
        onEvent?.({ kind: "step", step, totalSteps, ...previewAt(step, request, settings) });
      }
      signal.throwIfAborted();
      const denoisingMs = performance.now() - started;
      onEvent?.({ kind: "stage", stage: "vae-decode" });
      return {
        pixels: mixed(
          pattern(request, settings, settings.width, settings.height),
          request.initImage,
          settings.strength,
        ),
        timings: { textEncodingMs: 0, denoisingMs, vaeDecodeMs: 0 },
        truncatedTokens: 0,
        promptCache: { hits: 0, misses: 1 },
      };
    },
  };
}

function previewAt(step: number, request: GenerationRequest, settings: GenerationSettings) {
  const { width, height } = settings;
  const interval = request.previewInterval ?? 0;
  return interval > 0 && step % interval === 0 ? { preview: pattern(request, settings, width / 8, height / 8) } : {};
}

/** The pattern where there is no image; with one, `strength` parts of it and the rest of the image. */
function mixed(pixels: Pixels, image: Pixels | undefined, strength = 1): Pixels {
  if (image === undefined) {
    return pixels;
  }
  return { ...pixels, data: pixels.data.map((value, i) => strength * value + (1 - strength) * (image.data[i] ?? 0)) };
}

function pattern(
  request: GenerationRequest,
  { loras = [] }: Pick<GenerationSettings, "loras">,
  width: number,
  height: number,
) {
  let hash = request.seed >>> 0;
  const applied = loras.filter(({ scale }) => scale !== 0).map(describeLora);
  for (const character of [request.prompt, ...applied].join("\n")) {
    hash = (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) >>> 0;
  }
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    data[i] = (hash >>> ((i % 3) * 8)) ^ Math.floor(i / 3 / width);
  }
  return { data, width, height };
}
