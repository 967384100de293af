import { create } from "@bufbuild/protobuf";
import type { EngineInfo } from "../engine/engine.js";
import { type Model, ModelSchema } from "../gen/throughline/v1/image_pb.js";
import { contractLimits, contractSchedulers, contractSettings } from "./job.js";

/** Describe the model of an engine, with the limits that {@link jobOf} checks. */
export function describeModel(info: EngineInfo): Model {
  const {
    sizes,
    ownScheduler,
    schedulers,
    defaultGuidanceScale,
    loras = [],
    imageToImage = false,
  } = contractLimits(info);
  const { width, height } = sizes;
  const own = schedulers[ownScheduler];
  return create(ModelSchema, {
    name: info.model,
    defaults: contractSettings({
      width: width.default,
      height: height.default,
      steps: own?.defaultSteps ?? 0,
      guidanceScale: defaultGuidanceScale,
      scheduler: ownScheduler,
      clipSkip: 0,
      guidanceRescale: 0,
    }),
    minSize: Math.min(width.minimum, height.minimum),
    maxSize: Math.max(width.maximum, height.maximum),
    sizeMultiple: Math.max(width.step, height.step),
    schedulers: contractSchedulers((name) => schedulers[name] !== undefined),
    loras: loras.map(({ name }) => name),
    imageToImage,
    maxNumInferenceSteps: own?.maximumSteps ?? 0,
    examplePrompts: [...info.examplePrompts],
    defaultsReason: info.defaultsReason ?? "",
  });
}
