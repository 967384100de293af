import { createFakeEngine } from "throughline/testing";
import { generate } from "./generate.js";
import { offered, traceOfOwnApp } from "./own-app.js";
import { serveBoth } from "./server.js";

const [, , images = "images"] = process.argv;
const services = await serveBoth(createFakeEngine(), images);
const steps: string[] = [];
const result = await generate(services.url, (step, ofSteps) => void steps.push(`${step}/${ofSteps}`));
const image = await fetch(result?.image?.url ?? "");
const seen = {
  steps,
  seed: result?.seed,
  contentType: image.headers.get("content-type"),
  signature: Buffer.from(await image.arrayBuffer()).toString("latin1", 1, 4),
  trace: await traceOfOwnApp(),
  offered: offered.map(({ name }) => name),
};
await services.stop();
process.stdout.write(JSON.stringify(seen));
