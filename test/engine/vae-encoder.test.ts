import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { GenerationError, type Pixels } from "../../src/engine/engine.js";
import { vaeSchema } from "../../src/engine/model-config.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { FloatTensor, InputTensor, ModelSession, OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { createTorchGenerator } from "../../src/engine/torch-generator.js";
import { createVaeEncoder } from "../../src/engine/vae-encoder.js";
import { makeSafetensorsFolder, makeSingleFile } from "../fixtures/safetensors-model.js";
import { makeSdxlFolder, type SdxlFolderOptions } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce } from "./generate-once.js";
import { sharedSessions } from "./shared-sessions.js";

const { signal } = new AbortController();

function grey(width: number, height: number, value = 128): Pixels {
  return { data: new Uint8Array(width * height * 3).fill(value), width, height };
}

/** A session that gives fixed parameters, and notes what it is fed. */
function fixedSession(parameters: FloatTensor, fed: Record<string, InputTensor>[] = []): ModelSession {
  return {
    inputs: new Map(),
    outputs: ["latent_parameters"],
    async run(feeds) {
      fed.push({ ...feeds });
      return () => parameters;
    },
    async release() {},
  };
}

describe("VAE encoder", () => {
  const config = { latent_channels: 1, block_out_channels: [8, 8, 8, 8], scaling_factor: 0.5 };
  /** One latent of mean 2 and one of mean 4; standard deviation 0 and 1, whose logarithms diffusers bounds. */
  const parameters = { data: Float32Array.from([2, 4, -1e9, 0]), shape: [1, 2, 1, 2] };
  const noise = createTorchGenerator(9).randn(2);
  const drawn = [2 + Math.exp(-15) * (noise[0] ?? 0), 4 + (noise[1] ?? 0)];

  const encode = (more: Readonly<Record<string, unknown>>, fed?: Record<string, InputTensor>[]) =>
    createVaeEncoder(vaeSchema.parse({ ...config, ...more }), async () => fixedSession(parameters, fed)).encode(
      grey(16, 8),
      createTorchGenerator(9),
      signal,
    );

  const assertClose = (actual: Float32Array, expected: readonly number[]) => {
    assert.equal(actual.length, expected.length);
    assert.ok(
      expected.every((value, i) => Math.abs(value - (actual[i] ?? Number.NaN)) < 1e-6),
      `${actual}`,
    );
  };

  it("latents are drawn with the generator's noise and scaled for the UNet", async () => {
    assertClose(
      await encode({}),
      drawn.map((value) => value / 2),
    );
  });

  it("latents are normalized if the configuration has their mean and deviation, or a shift", async () => {
    assertClose(
      await encode({ latents_mean: [1], latents_std: [4] }),
      drawn.map((value) => ((value - 1) * 0.5) / 4),
    );
    assertClose(
      await encode({ shift_factor: 0.25 }),
      drawn.map((value) => (value - 0.25) * 0.5),
    );
  });

  it("pixels are -1 to 1, channel by channel", async () => {
    const fed: Record<string, InputTensor>[] = [];
    const session = fixedSession(parameters, fed);
    const image = { data: Uint8Array.from([0, 51, 255, 255, 51, 0]), width: 2, height: 1 };
    await createVaeEncoder(vaeSchema.parse(config), async () => session).encode(image, createTorchGenerator(0), signal);
    const sample = fed[0]?.["sample"];
    assert.deepEqual(sample?.shape, [1, 3, 1, 2]);
    assertClose(Float32Array.from(sample?.data ?? []), [-1, 1, -0.6, -0.6, 1, -1]);
  });

  it("numbers that are none and a graph that does not load are errors for the caller, with the cause for the log", async () => {
    const nothing = { data: Float32Array.from([Number.NaN, 0, 0, 0]), shape: [1, 2, 1, 2] };
    const overflowing = createVaeEncoder(vaeSchema.parse(config), async () => fixedSession(nothing));
    await assert.rejects(overflowing.encode(grey(16, 8), createTorchGenerator(0), signal), /overflows in float16/);
    const missing = createVaeEncoder(vaeSchema.parse(config), () => Promise.reject(new Error("/secret/path")));
    await assert.rejects(missing.encode(grey(16, 8), createTorchGenerator(0), signal), (error) => {
      assert.ok(error instanceof GenerationError);
      assert.equal(error.message, "the model's VAE encoder cannot be loaded");
      assert.ok(error.cause instanceof Error);
      return true;
    });
  });
});

/** Opens real sessions, and notes which are opened and released. */
function watchedSessions(story: string[], open: OpenSession = createSessionOpener({ threads: 1 })): OpenSession {
  return async (graph) => {
    const session = await open(graph);
    story.push(`open ${graph.subModel}`);
    const release = async () => {
      story.push(`release ${graph.subModel}`);
      await session.release();
    };
    return { ...session, release };
  };
}

const request = { prompt: "a red heart", seed: 1, steps: 2, width: 64, height: 64 };

describe("VAE encoder of a model", async () => {
  const home = await temporaryFolder();
  const safetensors = sharedSessions();
  after(() => safetensors.release());

  const load = async (options: SdxlFolderOptions, story: string[] = []) => {
    const name = options.encoderOutput ?? "without";
    const modelFolder = await makeSdxlFolder(join(home, name), options);
    const engine = await loadSdxlEngine({ modelFolder, openSession: watchedSessions(story) });
    after(() => engine.release());
    return engine;
  };

  it("exported encoder is used, and stays closed until an image comes", async () => {
    const story: string[] = [];
    const engine = await load({ encoderOutput: "latent_parameters" }, story);
    assert.equal(engine.info.limits.imageToImage, true);
    assert.equal(engine.graphs.vae_encoder, "vae_encoder/model.onnx");
    await generateOnce(engine, request);
    assert.deepEqual(
      story.filter((line) => line.includes("encoder/") || line.endsWith("vae_encoder")),
      ["open vae_encoder", "release vae_encoder"],
    );
    const first = await generateOnce(engine, { ...request, initImage: grey(64, 64), strength: 1 });
    const again = await generateOnce(engine, { ...request, initImage: grey(64, 64), strength: 1 });
    assert.deepEqual(first.pixels, again.pixels);
    const other = await generateOnce(engine, { ...request, initImage: grey(64, 64, 0), strength: 1 });
    assert.notDeepEqual(first.pixels, other.pixels);
    assert.equal(story.filter((line) => line === "open vae_encoder").length, 2);
  });

  it("exported encoder that draws in its graph is not used, and the log says why", async () => {
    const engine = await load({ encoderOutput: "latent_sample" });
    assert.equal(engine.info.limits.imageToImage, false);
    assert.match(engine.notes.assumptions.join(), /^vae_encoder\/model\.onnx has no output latent_parameters/);
  });

  it("model without an encoder rejects an image by its field", async () => {
    const engine = await load({});
    assert.equal(engine.info.limits.imageToImage, false);
    await assert.rejects(generateOnce(engine, { ...request, initImage: grey(64, 64) }), (error) => {
      assert.ok(error instanceof GenerationError);
      assert.deepEqual(
        error.violations.map(({ field }) => field),
        ["initImage"],
      );
      return true;
    });
  });

  it("encoder of safetensors is loaded by the first image; weights without one load too", async () => {
    const story: string[] = [];
    const folder = await makeSafetensorsFolder(join(home, "safetensors"), { type: "F16", variant: "fp16" });
    const openSession = watchedSessions(story, safetensors.openSession);
    const engine = await loadSdxlEngine({ modelFolder: folder, openSession });
    after(() => engine.release());
    assert.equal(engine.info.limits.imageToImage, true);
    await generateOnce(engine, request);
    assert.ok(!story.includes("open vae_encoder"));
    await generateOnce(engine, { ...request, initImage: grey(64, 64), strength: 0.5 });
    assert.ok(story.includes("open vae_encoder"));

    const decoderOnly = await makeSingleFile(join(home, "decoder only.safetensors"), {
      type: "F16",
      change: (tensors) => {
        for (const name of [...tensors.keys()]) {
          if (/^first_stage_model\.(?:encoder|quant_conv)\./.test(name)) {
            tensors.delete(name);
          }
        }
      },
    });
    const without = await loadSdxlEngine({ modelFolder: decoderOnly, openSession: safetensors.openSession });
    after(() => without.release());
    assert.equal(without.info.limits.imageToImage, false);
  });

  it("files that were replaced since the start are not read as the encoder's", async () => {
    const folder = await makeSafetensorsFolder(join(home, "replaced"), { type: "F16", variant: "fp16" });
    const engine = await loadSdxlEngine({ modelFolder: folder, openSession: safetensors.openSession });
    after(() => engine.release());
    await rm(join(folder, "vae"), { recursive: true });
    await makeSafetensorsFolder(folder, { type: "F16", variant: "fp16" });
    await assert.rejects(generateOnce(engine, { ...request, initImage: grey(64, 64), strength: 1 }), {
      message: "the model's VAE encoder cannot be loaded",
    });
  });
});
