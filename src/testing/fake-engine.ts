import type { GenerationLimits, GenerationRequest, GenerationSettings } from "../engine/engine.js";
import { resolveSettings } from "../engine/generation-limits.js";
import type { ManagedEngine } from "../worker/worker-app.js";

/** What a fake engine does besides generating at once. */
export interface FakeEngineOptions {
  /** Awaited before each step: the place to hold a generating at a step, or to fail it. Receives the step, from 1. */
  readonly beforeStep?: (step: number, request: GenerationRequest, signal: AbortSignal) => Promise<void> | void;
  /** What it says it can take. @default whatever the contract allows, by 64×64 pixels in 4 steps where nothing is said */
  readonly limits?: GenerationLimits;
}

/** An engine without a model, with counters for assertions. */
export interface FakeEngine extends ManagedEngine {
  /** Steps that were run, of all generations together. */
  readonly stepsRun: number;
  /** Generations that began. */
  readonly generations: number;
  /** Makes the engine away, as when its process is being restarted, or back. */
  setAvailable(available: boolean): void;
}

const side = { step: 8, minimum: 64, maximum: 2048, default: 64 };
const steps = { defaultSteps: 4, maximumSteps: 150 };
const contractLimits: GenerationLimits = {
  sizes: { width: side, height: side, vaeFactor: 8 },
  ownScheduler: "euler-discrete",
  schedulers: {
    "euler-discrete": steps,
    "euler-ancestral": steps,
    "dpmpp-2m": steps,
    "dpmpp-2m-karras": steps,
    ddim: steps,
    lcm: steps,
  },
  defaultGuidanceScale: 5,
  guidance: "second-run",
};

/**
 * Generates a pattern made from the seed and the prompt: the same request gives the same image, another seed or prompt another one.
 * Everything around it is real: queue, cancel, spans, encoding.
 */
export function createFakeEngine(options: FakeEngineOptions = {}): FakeEngine {
  const { limits = contractLimits } = options;
  const listeners = new Set<(available: boolean) => void>();
  let stepsRun = 0;
  let generations = 0;
  return {
    info: { model: "fake", executionProvider: "none", limits },
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
      const started = performance.now();
      onEvent?.({ kind: "stage", stage: "denoising" });
      for (let step = 1; step <= settings.steps; step++) {
        signal.throwIfAborted();
        await options.beforeStep?.(step, request, signal);
        stepsRun++;
        onEvent?.({ kind: "step", step, totalSteps: settings.steps, ...previewAt(step, request, settings) });
      }
      signal.throwIfAborted();
      const denoisingMs = performance.now() - started;
      onEvent?.({ kind: "stage", stage: "vae-decode" });
      return {
        pixels: pattern(request, settings.width, settings.height),
        timings: { textEncodingMs: 0, denoisingMs, vaeDecodeMs: 0 },
        truncatedTokens: 0,
        promptCache: { hits: 0, misses: 1 },
      };
    },
  };
}

function previewAt(step: number, request: GenerationRequest, { width, height }: GenerationSettings) {
  const interval = request.previewInterval ?? 0;
  return interval > 0 && step % interval === 0 ? { preview: pattern(request, width / 8, height / 8) } : {};
}

function pattern(request: GenerationRequest, width: number, height: number) {
  let hash = request.seed >>> 0;
  for (const character of request.prompt) {
    hash = (Math.imul(hash, 31) + (character.codePointAt(0) ?? 0)) >>> 0;
  }
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    data[i] = (hash >>> ((i % 3) * 8)) ^ Math.floor(i / 3 / width);
  }
  return { data, width, height };
}
