import { availableParallelism } from "node:os";
import { type Figure, writeReport } from "../support/figures.js";
import { startBenchMesh } from "../support/mesh.js";

/* npm run bench -- throughput: images a minute through pipeline and worker over gRPC, with so many requests in flight. */

const windowMs = 12_000;
const mesh = await startBenchMesh({ threads: availableParallelism() });
const figures: Figure[] = [];
let seed = 0;
try {
  for (const inFlight of [1, 2, 4, 8]) {
    const started = performance.now();
    let generated = 0;
    let lastAt = started;
    const caller = async (): Promise<void> => {
      while (performance.now() - started < windowMs) {
        await mesh.client.generate({ prompt: "a red heart", options: { seed: seed++ } });
        generated++;
        lastAt = performance.now();
      }
    };
    await Promise.all(Array.from({ length: inFlight }, caller));
    figures.push({
      name: `${inFlight} in flight`,
      value: generated / ((lastAt - started) / 60_000),
      unit: "per minute",
      note: "20 steps, 128×128, guidance 4",
    });
  }
} finally {
  await mesh.stop();
}
await writeReport("throughput", { title: "Throughput in images per minute", figures });
