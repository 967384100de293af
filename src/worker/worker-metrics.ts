import type { Attributes, Meter } from "@opentelemetry/api";
import type { GeneratedImage, GenerationEvent, GenerationStage } from "../engine/engine.js";

/** Where an engine stands. */
export type EngineState = "starting" | "ready" | "restarting";

/** Parts of an image's way through the worker whose durations are measured; `upload` contains `image-encode`. */
export type MeasuredStage = GenerationStage | "image-encode" | "upload";

/** Options of {@link createWorkerMetrics}. */
export interface WorkerMetricsOptions {
  readonly meter: Meter;
  /** Requests that may wait, and those that do. */
  readonly queue: { readonly limit: number; readonly length: () => number };
}

/** What a worker measures besides its calls. No attribute has more than a handful of values. */
export interface WorkerMetrics {
  /** A request's turn has come. */
  waited(ms: number): void;
  /** Begins to measure a generation. */
  generation(executionProvider: string): GenerationMeasurement;
  stageTook(stage: MeasuredStage, ms: number): void;
  /** The engine came or went. That it restarts is counted. */
  engineIs(state: EngineState): void;
}

/** Measures one generation by its events. */
export interface GenerationMeasurement {
  event(event: GenerationEvent): void;
  /** The image is there. */
  image(image: Pick<GeneratedImage, "promptCache">): void;
  /** The generation is over, well or not: the steps and the time of an image that was cancelled count too. */
  end(): void;
}

/** In seconds: an image takes from a part of one on a GPU to minutes on a CPU. */
const bucketBoundaries = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

const engineStates = ["starting", "ready", "restarting"] as const satisfies readonly EngineState[];

/** Makes the instruments of a worker. The engine counts as starting until something else is said. */
export function createWorkerMetrics({ meter, queue }: WorkerMetricsOptions): WorkerMetrics {
  const secondsOf = (name: string, description: string) =>
    meter.createHistogram(name, {
      unit: "s",
      description,
      advice: { explicitBucketBoundaries: bucketBoundaries },
    });
  const wait = secondsOf("throughline.queue.wait.duration", "Time from a request's admission until its turn.");
  const stages = secondsOf(
    "throughline.stage.duration",
    "Time that a stage of an image took, cancelled ones included.",
  );
  const steps = meter.createCounter("throughline.diffusion.steps", {
    unit: "{step}",
    description: "Denoising steps that were run, those of cancelled images included.",
  });
  const images = meter.createCounter("throughline.images", {
    unit: "{image}",
    description: "Images that were generated to their end.",
  });
  const lookups = meter.createCounter("throughline.prompt_cache.lookups", {
    unit: "{lookup}",
    description: "Prompts and negative prompts that were looked up among those encoded before.",
  });
  const restarts = meter.createCounter("throughline.engine.restarts", {
    unit: "{restart}",
    description: "How often the engine's process ended and another was started.",
  });
  let state: EngineState = "starting";
  // Zeros from the start: a series that begins with the first restart shows no increase.
  restarts.add(0);
  meter
    .createObservableUpDownCounter("throughline.engine.state", {
      unit: "{engine}",
      description: "1 for the state that the engine is in, 0 for the others.",
    })
    .addCallback((result) => {
      for (const each of engineStates) {
        result.observe(each === state ? 1 : 0, { "throughline.engine.state": each });
      }
    });
  meter
    .createObservableUpDownCounter("throughline.queue.length", {
      unit: "{request}",
      description: "Requests that wait for the engine.",
    })
    .addCallback((result) => result.observe(queue.length()));
  meter
    .createObservableUpDownCounter("throughline.queue.limit", {
      unit: "{request}",
      description: "Requests that may wait for the engine; more are rejected.",
    })
    .addCallback((result) => result.observe(queue.limit));

  const stageTook = (stage: MeasuredStage, ms: number) => stages.record(ms / 1000, { "throughline.stage": stage });

  return {
    waited: (ms) => wait.record(ms / 1000),
    stageTook,
    generation(executionProvider) {
      let attributes: Attributes = {};
      let stepsRun = 0;
      let stage: { readonly name: GenerationStage; readonly since: number } | undefined;
      const endStage = () => {
        if (stage !== undefined) {
          stageTook(stage.name, performance.now() - stage.since);
          stage = undefined;
        }
      };
      return {
        event(event) {
          switch (event.kind) {
            case "settings":
              attributes = {
                "diffusion.scheduler": event.settings.scheduler,
                "diffusion.execution_provider": executionProvider,
              };
              break;
            case "stage":
              endStage();
              stage = { name: event.stage, since: performance.now() };
              break;
            case "step":
              stepsRun++;
              break;
          }
        },
        image({ promptCache }) {
          endStage();
          images.add(1, attributes);
          lookups.add(promptCache.hits, { "throughline.prompt_cache.result": "hit" });
          lookups.add(promptCache.misses, { "throughline.prompt_cache.result": "miss" });
        },
        end() {
          endStage();
          if (stepsRun > 0) {
            steps.add(stepsRun, attributes);
          }
        },
      };
    },
    engineIs(next) {
      if (next === "restarting" && state !== "restarting") {
        restarts.add(1);
      }
      state = next;
    },
  };
}
