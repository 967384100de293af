import type { Attributes, Meter } from "@opentelemetry/api";
import type { GeneratedImage, GenerationEvent, GenerationStage } from "../engine/engine.js";

/** State of an engine. */
export type EngineState = "starting" | "ready" | "restarting";

/** Measured stages of a request; `upload` contains `image-encode`. */
export type MeasuredStage = GenerationStage | "image-encode" | "upload";

/** Options of {@link createWorkerMetrics}. */
export interface WorkerMetricsOptions {
  readonly meter: Meter;
  /** Maximum and current length of the queue. */
  readonly queue: { readonly limit: number; readonly length: () => number };
}

/** Metrics of a worker, besides those of its calls. All attributes have few values. */
export interface WorkerMetrics {
  /** Records the wait of a request in the queue. */
  waited(ms: number): void;
  /** Starts the measurement of a generation. */
  generation(executionProvider: string): GenerationMeasurement;
  stageTook(stage: MeasuredStage, ms: number): void;
  /** Records the engine's state, and counts restarts. */
  engineIs(state: EngineState): void;
}

/** Measurement of one generation by its events. */
export interface GenerationMeasurement {
  event(event: GenerationEvent): void;
  /** Records a finished image. */
  image(image: Pick<GeneratedImage, "promptCache">): void;
  /** Ends the measurement. Steps and times of cancelled images count too. */
  end(): void;
}

/** Bucket boundaries in seconds: below one on a GPU to minutes on a CPU. */
const bucketBoundaries = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

const engineStates = ["starting", "ready", "restarting"] as const satisfies readonly EngineState[];

/** Create the instruments of a worker. The initial engine state is `starting`. */
export function createWorkerMetrics({ meter, queue }: WorkerMetricsOptions): WorkerMetrics {
  const secondsOf = (name: string, description: string) =>
    meter.createHistogram(name, {
      unit: "s",
      description,
      advice: { explicitBucketBoundaries: bucketBoundaries },
    });
  const wait = secondsOf("throughline.queue.wait.duration", "Time of a request in the queue.");
  const stages = secondsOf("throughline.stage.duration", "Duration of a stage of an image, cancelled images included.");
  const steps = meter.createCounter("throughline.diffusion.steps", {
    unit: "{step}",
    description: "Denoising steps run, cancelled images included.",
  });
  const images = meter.createCounter("throughline.images", {
    unit: "{image}",
    description: "Finished images.",
  });
  const lookups = meter.createCounter("throughline.prompt_cache.lookups", {
    unit: "{lookup}",
    description: "Lookups of prompts and negative prompts in the cache of encoded prompts.",
  });
  const restarts = meter.createCounter("throughline.engine.restarts", {
    unit: "{restart}",
    description: "Restarts of the engine's process.",
  });
  let state: EngineState = "starting";
  // Start at zero: a series that starts with the first restart shows no increase.
  restarts.add(0);
  meter
    .createObservableUpDownCounter("throughline.engine.state", {
      unit: "{engine}",
      description: "1 for the engine's current state, 0 for the others.",
    })
    .addCallback((result) => {
      for (const each of engineStates) {
        result.observe(each === state ? 1 : 0, { "throughline.engine.state": each });
      }
    });
  meter
    .createObservableUpDownCounter("throughline.queue.length", {
      unit: "{request}",
      description: "Requests waiting for the engine.",
    })
    .addCallback((result) => result.observe(queue.length()));
  meter
    .createObservableUpDownCounter("throughline.queue.limit", {
      unit: "{request}",
      description: "Maximum number of waiting requests; more are rejected.",
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
