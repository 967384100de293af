import type { GenerationOptions } from "../../contracts/contracts.js";
import { lorasText } from "./loras.js";
import { type RequestForm, schedulers } from "./request-form.js";

/** The fields of the form that ask for these options. */
export function fieldsOf(options: GenerationOptions): Partial<RequestForm> {
  const { negativePrompt = "", width, height, numInferenceSteps, guidanceScale, seed, strength, loras } = options;
  return {
    negativePrompt,
    width: textOf(width),
    height: textOf(height),
    steps: textOf(numInferenceSteps),
    guidance: textOf(guidanceScale),
    seed: textOf(seed),
    scheduler: [...schedulers].find(([, { value }]) => value === options.scheduler)?.[0] ?? "",
    loras: lorasText(loras.map(({ name, scale }) => ({ name, scale: textOf(scale) }))),
    strength: textOf(strength),
  };
}

/** A float of Protobuf has seven digits. */
function textOf(value: number | undefined): string {
  return value === undefined ? "" : String(Number.isInteger(value) ? value : Number(value.toPrecision(7)));
}
