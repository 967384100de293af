import { createPipelineClient } from "@throughline/client";
import { Delivery, ImagePipelineService, Scheduler } from "@throughline/client/contracts";

/** Generates an image at a pipeline's URL, step by step, and prints what came. */
const [, , baseUrl = ""] = process.argv;
const pipeline = createPipelineClient({ baseUrl });
const options = { seed: 7, scheduler: Scheduler.DDIM, delivery: Delivery.URL };
const steps: number[] = [];
for await (const { event } of pipeline.generateStream({ request: { prompt: "a red heart", options } })) {
  if (event.case === "progress" && event.value.step > 0) {
    steps.push(event.value.step);
  }
  if (event.case === "result") {
    const { image, seed } = event.value;
    const { typeName } = ImagePipelineService;
    process.stdout.write(JSON.stringify({ typeName, steps, seed, contentType: image?.contentType }));
  }
}
