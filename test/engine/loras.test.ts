import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { loadSdxlEngine, type SdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { LoraSource } from "../../src/engine/weights/lora.js";
import { type LoraDialect, type LoraFileOptions, loraGoldens, makeLoraFile } from "../fixtures/lora-file.js";
import { makeSafetensorsFolder, makeSingleFile } from "../fixtures/safetensors-model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce, psnr } from "./generate-once.js";
import { sharedSessions } from "./shared-sessions.js";

/* Images with LoRAs against diffusers' load_lora_weights on the same weights. */

const request = {
  prompt: "a red apple",
  negativePrompt: "blue",
  width: 64,
  height: 64,
  seed: 42,
  steps: 4,
  guidanceScale: 5,
};

describe("LoRAs, compared with diffusers", async () => {
  const home = await temporaryFolder();
  const modelFolder = await makeSafetensorsFolder(join(home, "model"), { type: "F16" });
  const { openSession, release } = sharedSessions();
  after(release);

  async function lora(name: string, kind: "wide" | "narrow", options?: LoraFileOptions): Promise<LoraSource> {
    return { name, file: await makeLoraFile(join(home, `${name}.safetensors`), kind, options), scale: 1 };
  }

  async function load(loras: readonly LoraSource[], model = modelFolder): Promise<SdxlEngine> {
    const engine = await loadSdxlEngine({ modelFolder: model, loras, openSession });
    after(() => engine.release());
    return engine;
  }

  async function likeness(
    engine: SdxlEngine,
    names: Readonly<Record<string, string>>,
    golden: "wide" | "narrow" | "both",
  ) {
    const { scales, pixels: expected } = loraGoldens.images[golden];
    const loras = Object.entries(scales).map(([kind, scale]) => ({ name: names[kind] ?? "", scale }));
    const { pixels } = await generateOnce(engine, { ...request, loras });
    return psnr(pixels.data, Buffer.from(expected, "base64"));
  }

  const dialects: readonly (readonly ["wide" | "narrow", LoraDialect, LoraFileOptions])[] = [
    ["wide", "kohya", { type: "F16" }],
    ["wide", "kohya with diffusers' names", { type: "BF16", padding: 3 }],
    ["wide", "PEFT", { type: "F32" }],
    ["narrow", "diffusers of 2023", { type: "F32" }],
    ["narrow", "diffusers", { type: "F16" }],
  ];
  const all = await Promise.all(
    dialects.map(([kind, dialect, options]) => lora(dialect, kind, { dialect, ...options })),
  );
  const engine = await load(all);
  // Together they name every dialect; each set of LoRAs takes a second to open.
  const choices: readonly (readonly ["wide" | "narrow" | "both", Readonly<Record<string, LoraDialect>>])[] = [
    ["wide", { wide: "PEFT" }],
    ["narrow", { narrow: "diffusers" }],
    ["both", { wide: "kohya with diffusers' names", narrow: "diffusers of 2023" }],
    ["both", { wide: "kohya", narrow: "diffusers" }],
  ];
  for (const [image, names] of choices) {
    it(`LoRA in the dialect of ${Object.values(names).join(", and another in that of ")}, gives diffusers' image`, async (t) => {
      const decibels = await likeness(engine, names, image);
      t.diagnostic(`${decibels.toFixed(1)} dB`);
      assert.ok(decibels >= 60, `${decibels} dB`);
    });
  }

  it("two LoRAs, one of them with a negative scale, give the same image in either order", async () => {
    const { scales } = loraGoldens.images.both;
    assert.ok(Object.values(scales).some((scale) => scale < 0));
    const loras = Object.entries({ wide: "kohya", narrow: "diffusers" }).map(([kind, name]) => ({
      name,
      scale: scales[kind],
    }));
    const [one, other] = [loras, loras.toReversed()].map((choice) => ({ ...request, loras: choice }));
    assert.ok(one && other);
    assert.deepEqual((await generateOnce(engine, one)).pixels, (await generateOnce(engine, other)).pixels);
  });

  it("scale 0 gives exactly the image without LoRAs, and another scale another image", async () => {
    const plain = await generateOnce(await load([]), request);
    const none = await generateOnce(engine, { ...request, loras: [] });
    const zero = await generateOnce(engine, {
      ...request,
      loras: [
        { name: "PEFT", scale: 0 },
        { name: "kohya", scale: -0 },
      ],
    });
    const scales = loraGoldens.images.both.scales;
    const of = (factor: number) =>
      generateOnce(engine, {
        ...request,
        loras: [
          { name: "kohya", scale: factor * (scales["wide"] ?? 0) },
          { name: "diffusers", scale: factor * (scales["narrow"] ?? 0) },
        ],
      });
    const one = await of(0.5);
    assert.deepEqual(none.pixels, plain.pixels);
    assert.deepEqual(zero.pixels, plain.pixels);
    assert.ok(psnr(one.pixels.data, plain.pixels.data) < 30);
    assert.ok(psnr(one.pixels.data, (await of(1)).pixels.data) < 45);
  });

  it("text encoders' part of a LoRA changes the image, and prompts are not taken from the cache of another scale", async () => {
    const text = await load([
      await lora("text", "wide", { only: /^text_/ }),
      await lora("unet", "wide", { only: /^unet/ }),
    ]);
    const generate = (scales: Readonly<Record<string, number>>) =>
      generateOnce(text, { ...request, loras: Object.entries(scales).map(([name, scale]) => ({ name, scale })) });
    const plain = await generate({});
    const half = await generate({ text: 0.4 });
    assert.deepEqual(
      [plain.promptCache, half.promptCache],
      [
        { hits: 0, misses: 2 },
        { hits: 0, misses: 2 },
      ],
    );
    const whole = await generate({ text: 0.8 });
    assert.ok(psnr(half.pixels.data, plain.pixels.data) < 45);
    assert.ok(psnr(whole.pixels.data, half.pixels.data) < 45);
    const cached = await generate({ text: 0.8 });
    assert.deepEqual([cached.promptCache, cached.pixels], [{ hits: 2, misses: 0 }, whole.pixels]);
    // The UNet's part alone leaves the model's own prompts as they are.
    assert.deepEqual((await generate({ unet: 0.8 })).promptCache, { hits: 2, misses: 0 });
    const both = await generate({ unet: 0.8, text: 0.8 });
    assert.ok(psnr(both.pixels.data, Buffer.from(loraGoldens.images.wide.pixels, "base64")) >= 60);
  });

  it("single-file checkpoint with open_clip's names and LoRA in a folder with a non-ASCII name give diffusers' image", async (t) => {
    const model = await makeSingleFile(join(home, "one.safetensors"), { type: "BF16" });
    const file = await makeLoraFile(join(home, "größe 日本", "a=b:c.safetensors"), "wide");
    const single = await load([{ name: "wide", file, scale: 0.8 }], model);
    const decibels = await likeness(single, { wide: "wide" }, "wide");
    t.diagnostic(`${decibels.toFixed(1)} dB`);
    assert.ok(decibels >= 60, `${decibels} dB`);
    // The default scale is that of the golden image.
    const { pixels } = await generateOnce(single, { ...request, loras: [{ name: "wide" }] });
    assert.deepEqual(
      pixels.data,
      (await generateOnce(single, { ...request, loras: [{ name: "wide", scale: 0.8 }] })).pixels.data,
    );
  });
});
