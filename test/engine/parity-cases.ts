import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import * as z from "zod";
import type { SchedulerName } from "../../src/engine/engine.js";
import { readModel } from "../../src/engine/model-folder.js";
import { schedulers } from "../../src/engine/schedulers.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { readGolden } from "../fixtures/golden-file.js";
import { generateOnce, psnr } from "./generate-once.js";

const parityCase = z.object({
  prompt: z.string(),
  negative_prompt: z.string().exactOptional(),
  scheduler: z.custom<SchedulerName>((name) => schedulers.some((entry) => entry.name === name)),
  steps: z.number(),
  guidance_scale: z.number(),
  clip_skip: z.number().exactOptional(),
  guidance_rescale: z.number().exactOptional(),
  width: z.number(),
  height: z.number(),
  seed: z.number(),
  /** Image with all of one size, and the place of this one in it. */
  sheet: z.string(),
  left: z.number(),
  top: z.number(),
  /** Place of the latents in the file of all, in bytes, and their number. */
  offset: z.number(),
  length: z.number(),
});
export type ParityCase = z.output<typeof parityCase> & {
  /** File with the latents. */
  readonly latents: string;
};

async function readCases(name: string): Promise<readonly ParityCase[]> {
  const golden = await readGolden(`diffusers/${name}`, z.object({ latents: z.string(), cases: z.array(parityCase) }));
  return golden.cases.map((parity) => ({ ...parity, latents: golden.latents }));
}

const goldenFile = (name: string) => fileURLToPath(new URL(`../golden/diffusers/${name}`, import.meta.url));
const modelFolder = fileURLToPath(new URL("../../models/emoji-xl", import.meta.url));

/** Every combination of scheduler, guidance scale, prompt and size. */
export const parityCases = await readCases("parity.json");

/** One image of each scheduler in random-schedulers.test.ts. */
export const multistepCases = await readCases("multistep.json");

/** Images with `clip_skip` and `guidance_rescale`. */
export const conditioningCases = await readCases("conditioning.json");

/** Largest difference of a latent; they are about ±3. On x86-64, 1.1e-4 and 84 dB were seen: two libraries add up in other orders. */
const latentsTolerance = 1e-3;
const leastPsnr = 60;

/** Generates the cases with the embedded model, and compares latents and images with those of diffusers: training/goldens.py, scheduler_goldens.py and conditioning_goldens.py made them. */
export function testParity(cases: readonly ParityCase[]): void {
  describe("embedded model compared with diffusers' pipeline", async () => {
    let decoded: Float32Array = new Float32Array(0);
    const open = createSessionOpener({ threads: 1 });
    const openSession: OpenSession = async (graph) => {
      const session = await open(graph);
      return {
        ...session,
        run(feeds, wanted) {
          if (graph.subModel === "vae_decoder") {
            decoded = Float32Array.from(feeds["latent_sample"]?.data ?? []);
          }
          return session.run(feeds, wanted);
        },
      };
    };
    const { vae } = await readModel(modelFolder);
    const engine = await loadSdxlEngine({ modelFolder, openSession });
    after(() => engine.release());

    for (const { prompt, negative_prompt: negativePrompt, latents, ...request } of cases) {
      const { scheduler, steps, seed, width, height, guidance_scale: guidanceScale } = request;
      const { clip_skip: clipSkip, guidance_rescale: guidanceRescale } = request;
      const more = { ...(clipSkip && { clipSkip }), ...(guidanceRescale && { guidanceRescale }) };
      const changes = Object.entries(more).map(([name, value]) => `, ${name} ${value}`);
      const negative = negativePrompt === undefined ? "" : ` without "${negativePrompt}"`;
      it(`${scheduler}, ${steps} steps, guidance ${guidanceScale}${changes.join("")}, ${width}×${height}: "${prompt}"${negative}`, async (test) => {
        const settings = { scheduler, steps, seed, width, height, guidanceScale };
        const { pixels } = await generateOnce(engine, { prompt, negativePrompt, ...settings, ...more });
        assert.equal(decoded.length, request.length);
        const allLatents = await readFile(goldenFile(latents));
        const difference = decoded.reduce((most, value, i) => {
          const expected = allLatents.readFloatLE(request.offset + i * 4);
          return Math.max(most, Math.abs(value * vae.scaling_factor - expected));
        }, 0);
        const { left, top } = request;
        const sheet = sharp(goldenFile(request.sheet)).extract({ left, top, width, height });
        const likeness = psnr(pixels.data, await sheet.removeAlpha().raw().toBuffer());
        test.diagnostic(`latents within ${difference.toExponential(1)}, ${likeness.toFixed(1)} dB`);
        assert.ok(difference <= latentsTolerance, `latents differ by up to ${difference}`);
        assert.ok(likeness >= leastPsnr, `${likeness} dB`);
        if (changes.length > 0) {
          const plain = await generateOnce(engine, { prompt, negativePrompt, ...settings });
          assert.ok(psnr(plain.pixels.data, Buffer.from(pixels.data)) < 40, "the image without them is another");
        }
      });
    }
  });
}
