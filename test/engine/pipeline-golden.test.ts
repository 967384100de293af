import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { z } from "zod";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import { readGolden } from "../fixtures/golden-file.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce } from "./generate-once.js";

const golden = await readGolden(
  "engine/pipeline.json",
  z.object({
    cases: z.array(
      z.object({
        request: z.object({
          prompt: z.string(),
          negativePrompt: z.string().exactOptional(),
          seed: z.number(),
          steps: z.number(),
          guidanceScale: z.number(),
          width: z.number().exactOptional(),
          height: z.number().exactOptional(),
          scheduler: z
            .enum(["euler-discrete", "euler-ancestral", "dpmpp-2m", "dpmpp-2m-karras", "ddim", "lcm"])
            .exactOptional(),
          schedulerConfig: z.record(z.string(), z.unknown()).exactOptional(),
          guidanceWidth: z.number().exactOptional(),
        }),
        width: z.number(),
        height: z.number(),
        pixels: z.string(),
      }),
    ),
  }),
);

/**
 * diffusers' own `StableDiffusionXLPipeline` over the same graphs. Both were seen to give the same bytes on x86-64; one step
 * of 255 is allowed, because the graphs may run on other processors and versions of onnxruntime.
 */
describe("pipeline from prompt to pixels", () => {
  for (const { request, width, height, pixels } of golden.cases) {
    const { schedulerConfig = {}, guidanceWidth = 0, ...generate } = request;
    it(`pixels are those of diffusers: ${JSON.stringify(request)}`, async () => {
      const folder = join(await temporaryFolder(), "model");
      await makeSdxlFolder(folder, { schedulerConfig, guidanceWidth });
      const engine = await loadSdxlEngine({ modelFolder: folder });
      const image = await generateOnce(engine, generate);
      await engine.release();
      const expected = Buffer.from(pixels, "base64");
      assert.deepEqual(
        [image.pixels.width, image.pixels.height, image.pixels.data.length],
        [width, height, expected.length],
      );
      const worst = expected.reduce(
        (most, value, i) => Math.max(most, Math.abs(value - (image.pixels.data[i] ?? 0))),
        0,
      );
      assert.ok(worst <= 1, `off by up to ${worst}`);
    });
  }
});
