import { createPipelineClient } from "throughline/client";
import { Delivery, type GenerateResponse } from "throughline/contracts";

/** Generates an image by a URL, with a step for each of its steps. */
export async function generate(baseUrl: string, onStep: (step: number, ofSteps: number) => void) {
  const pipeline = createPipelineClient({ baseUrl });
  const request = { prompt: "a red heart", options: { seed: 7, delivery: Delivery.URL } };
  let result: GenerateResponse | undefined;
  for await (const { event } of pipeline.generateStream({ request })) {
    if (event.case === "progress" && event.value.step > 0) {
      onStep(event.value.step, event.value.totalSteps);
    }
    if (event.case === "result") {
      result = event.value;
    }
  }
  return result;
}
