import { vaeSchema } from "../../src/engine/model-config.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { createLatentPreview } from "../../src/engine/vae-decoder.js";
import { type Figure, median } from "../support/figures.js";

/** What generation costs besides the graphs: the engine in this process, with each run of a graph timed. */
export async function measureOverhead(modelFolder: string, generations: number): Promise<Figure[]> {
  const open = createSessionOpener();
  let runsMs = 0;
  const openSession: OpenSession = async (file) => {
    const session = await open(file);
    return {
      ...session,
      async run(feeds, wanted) {
        const started = performance.now();
        const output = await session.run(feeds, wanted);
        runsMs += performance.now() - started;
        return output;
      },
    };
  };
  const engine = await loadSdxlEngine({ modelFolder, openSession });
  await engine.warmUp();
  const ratios: number[] = [];
  const encodings = { first: [] as number[], again: [] as number[] };
  for (let i = 0; i < 2 * generations; i++) {
    runsMs = 0;
    const started = performance.now();
    const request = { prompt: `heart number ${i >> 1}`, seed: i, previewInterval: 1 };
    const { promptCache, timings } = await engine.generate(request, { signal: new AbortController().signal });
    encodings[promptCache.hits > 0 ? "again" : "first"].push(timings.textEncodingMs);
    ratios.push((performance.now() - started) / runsMs);
  }
  await engine.release();
  return [
    {
      name: "time of a request / time of its graph runs",
      value: median(ratios),
      unit: "",
      goal: "≤ 1.02",
      note: `median of ${ratios.length} requests with the model's defaults and a preview per step`,
    },
    { name: "text encoding, new prompt", value: median(encodings.first), unit: "ms" },
    { name: "text encoding, cached prompt", value: median(encodings.again), unit: "ms", goal: "≈ 0" },
    previewFigure(8, 16),
    previewFigure(4, 128),
  ];
}

function previewFigure(channels: number, side: number): Figure {
  const factors: [number, number, number][] = Array.from({ length: channels }, (_, i) => [0.1 * i, 0.2, -0.1 * i]);
  const vae = vaeSchema.parse({ latent_channels: channels, block_out_channels: [8, 8, 8, 8] });
  const preview = createLatentPreview(vae, { previewFactors: factors });
  const latents = { data: new Float32Array(channels * side * side).fill(0.3), shape: [1, channels, side, side] };
  const times = Array.from({ length: 60 }, () => {
    const started = performance.now();
    preview?.(latents);
    return performance.now() - started;
  });
  const name = `preview of ${channels}×${side}×${side} latents (${side * 8}² pixels)`;
  return { name, value: median(times), unit: "ms", goal: "≤ 1 ms" };
}
