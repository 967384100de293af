import type { Figure } from "../support/figures.js";
import { startBenchMesh } from "../support/mesh.js";

const windowMs = 12_000;

/** Pictures a minute through pipeline and worker over gRPC, with so many requests in flight. */
export async function measureThroughput(threads: number): Promise<Figure[]> {
  const mesh = await startBenchMesh({ threads });
  const figures: Figure[] = [];
  let seed = 0;
  try {
    for (const inFlight of [1, 2, 4, 8]) {
      const started = performance.now();
      let painted = 0;
      let lastAt = started;
      const caller = async (): Promise<void> => {
        while (performance.now() - started < windowMs) {
          await mesh.client.generate({ prompt: "a red heart", options: { seed: seed++ } });
          painted++;
          lastAt = performance.now();
        }
      };
      await Promise.all(Array.from({ length: inFlight }, caller));
      figures.push({
        name: `pictures a minute, ${inFlight} in flight`,
        value: painted / ((lastAt - started) / 60_000),
        unit: "",
        note: "20 steps, 128×128, guidance 4, through the mesh",
      });
    }
  } finally {
    await mesh.stop();
  }
  return figures;
}
