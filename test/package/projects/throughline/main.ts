import { createFakeEngine } from "throughline/testing";
import { offered, traceOfOwnApp } from "./own-app.js";
import { paint } from "./paint.js";
import { serveBoth } from "./server.js";

const [, , pictures = "pictures"] = process.argv;
const services = await serveBoth(createFakeEngine(), pictures);
const steps: string[] = [];
const result = await paint(services.url, (step, ofSteps) => void steps.push(`${step}/${ofSteps}`));
const picture = await fetch(result?.image?.url ?? "");
const seen = {
  steps,
  seed: result?.seed,
  contentType: picture.headers.get("content-type"),
  signature: Buffer.from(await picture.arrayBuffer()).toString("latin1", 1, 4),
  trace: await traceOfOwnApp(),
  offered: offered.map(({ name }) => name),
};
await services.stop();
process.stdout.write(JSON.stringify(seen));
