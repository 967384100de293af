import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { prepareGraphs } from "../../src/engine/build-graphs.js";
import { readModel } from "../../src/engine/model-folder.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { type Figure, median } from "../support/figures.js";

const unetConfig = z.object({
  in_channels: z.number(),
  sample_size: z.number(),
  cross_attention_dim: z.number(),
  addition_time_embed_dim: z.number(),
  projection_class_embeddings_input_dim: z.number(),
});

/** What an image's UNet run costs when several share it, over one of its own; sizes take turns. */
export async function measureBatches(modelFolder: string, rounds: number): Promise<Figure[]> {
  const config = unetConfig.parse(JSON.parse(await readFile(join(modelFolder, "unet/config.json"), "utf8")));
  const { graphs } = await prepareGraphs(await readModel(modelFolder), { precision: "auto", provider: "cpu" });
  const unet = await createSessionOpener()(graphs.unet);
  const { in_channels: channels, sample_size: side, cross_attention_dim: width } = config;
  const pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim;
  const tensor = (...shape: number[]) => {
    const data = new Float32Array(shape.reduce((product, length) => product * length)).fill(0.1);
    return { data, shape };
  };
  const run = async (batch: number): Promise<number> => {
    const feeds = {
      sample: tensor(batch, channels, side, side),
      timestep: { data: [500], shape: [1] },
      encoder_hidden_states: tensor(batch, 77, width),
      text_embeds: tensor(batch, pooled),
      time_ids: tensor(batch, 6),
    };
    const started = performance.now();
    await unet.run(feeds, ["out_sample"]);
    return (performance.now() - started) / batch;
  };
  const sizes = [2, 4, 8];
  const ratios = new Map(sizes.map((batch) => [batch, [] as number[]]));
  const single: number[] = [];
  await run(1);
  for (let round = 0; round < rounds; round++) {
    const alone = await run(1);
    single.push(alone);
    for (const batch of sizes) {
      ratios.get(batch)?.push((await run(batch)) / alone);
    }
  }
  await unet.release();
  return [
    { name: "UNet run of one image", value: median(single), unit: "ms" },
    ...sizes.map((batch) => ({
      name: `UNet time per image in a batch of ${batch}, relative to a single run`,
      value: median(ratios.get(batch) ?? []),
      unit: "",
      note: "below 1: batching is faster",
    })),
  ];
}
