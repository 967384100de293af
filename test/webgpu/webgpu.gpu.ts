import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { before, describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { GenerationRequest } from "../../src/engine/engine.js";
import { loadOnDevice } from "../../src/engine/load-on-device.js";
import { loadSdxlEngine, type SdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener, type SessionOptions } from "../../src/engine/sessions-onnx.js";
import { generateOnce, psnr } from "../engine/generate-once.js";
import { makeSafetensorsFolder } from "../fixtures/safetensors-model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { describeNodes, readNodeProfiles } from "./node-profile.js";

const embedded = fileURLToPath(new URL("../../models/emoji-xl", import.meta.url));
const program = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** Integers that shapes are made of, and the ids of the tokens. No image and no weight passes through them. */
const smallOperators = ["Shape", "Gather", "Concat", "Cast", "Equal"];
const leastPsnr = 40;
/** Of hidden states, which are about ±10. */
const largestPromptDifference = 1e-3;
/** The smallest image of both models. A driver in software takes a minute for it, most of it to compile programs. */
const request: GenerationRequest = {
  ...{ prompt: "a red apple", negativePrompt: "blue", seed: 42 },
  ...{ steps: 1, width: 32, height: 32, guidanceScale: 5 },
};

type CreateOpener = (options: SessionOptions) => OpenSession;
type Load = (profileFolder: string, createOpener: CreateOpener) => Promise<SdxlEngine>;

/** Opens onnxruntime's sessions, and keeps the prompt that the UNet was fed last. One step of noise hides a wrong one in the image. */
function keepPrompts(): { readonly createOpener: CreateOpener; readonly last: () => Float32Array } {
  let last = new Float32Array(0);
  const createOpener: CreateOpener = (options) => {
    const open = createSessionOpener(options);
    return async (graph) => {
      const session = await open(graph);
      return {
        ...session,
        run(feeds, wanted) {
          last = Float32Array.from(feeds["encoder_hidden_states"]?.data ?? last);
          return session.run(feeds, wanted);
        },
      };
    };
  };
  return { createOpener, last: () => last };
}

function largestDifference(one: Float32Array, other: Float32Array): number {
  assert.ok(one.length > 0 && one.length === other.length);
  return one.reduce((most, value, i) => Math.max(most, Math.abs(value - (other[i] ?? Number.NaN))), 0);
}

/** As a worker loads it, with the warm-up. */
const asWorker =
  (modelFolder: string): Load =>
  async (profileFolder, createOpener) =>
    (await loadOnDevice({ modelFolder, device: "webgpu", profileFolder, createOpener })).engine;

/** Without the warm-up, which takes as long as an image. */
const inFloat32 =
  (modelFolder: string): Load =>
  (profileFolder, createOpener) =>
    loadSdxlEngine({
      modelFolder,
      precision: "float32",
      provider: "webgpu",
      openSession: createOpener({ placement: { provider: "webgpu" }, profileFolder }),
    });

/** Generates on both devices, prints what ran where, and compares. */
async function compare(test: TestContext, modelFolder: string, load: (modelFolder: string) => Load): Promise<void> {
  const profileFolder = await temporaryFolder();
  const [onDevice, onCpu] = [keepPrompts(), keepPrompts()];
  const engine = await load(modelFolder)(profileFolder, onDevice.createOpener);
  assert.equal(engine.info.executionProvider, "webgpu");
  const image = await generateOnce(engine, request);
  await engine.release();
  // One batch on both, so that both are fed the same.
  const cpu = await loadSdxlEngine({ modelFolder, openSession: onCpu.createOpener({}) });
  const expected = await generateOnce(cpu, request);
  await cpu.release();

  const sessions = await readNodeProfiles(profileFolder);
  const likeness = psnr(image.pixels.data, Buffer.from(expected.pixels.data));
  const { textEncodingMs, denoisingMs, vaeDecodeMs } = image.timings;
  const seconds = ((textEncodingMs + denoisingMs + vaeDecodeMs) / 1000).toFixed(1);
  test.diagnostic(`${engine.notes.precision}; ${likeness.toFixed(1)} dB to the CPU's image; generated in ${seconds} s`);
  for (const session of sessions) {
    test.diagnostic(describeNodes(session));
  }
  assert.ok(likeness >= leastPsnr, `${likeness} dB`);
  const difference = largestDifference(onDevice.last(), onCpu.last());
  test.diagnostic(`text encoders within ${difference.toExponential(1)} of the CPU's`);
  assert.ok(difference <= largestPromptDifference, `text encoders differ by up to ${difference}`);
  assert.deepEqual(sessions.map(({ subModel }) => subModel).sort(), [
    "text_encoder",
    "text_encoder_2",
    "unet",
    "vae_decoder",
  ]);
  for (const { subModel, ...nodes } of sessions) {
    assert.ok(nodes.onDevice.size > 0, `${subModel} ran on the device`);
    assert.deepEqual(
      [...nodes.onCpu.keys()].filter((operator) => !smallOperators.includes(operator)),
      [],
      `${subModel} on the CPU`,
    );
  }
}

describe("WebGPU", async () => {
  const small = join(await temporaryFolder(), "small-xl");
  before(() => makeSafetensorsFolder(small, { type: "F16", variant: "fp16" }));

  it("small SDXL gives the CPU's image, and only integers are computed on the CPU", (test) =>
    compare(test, small, inFloat32));

  it("embedded model gives the CPU's image, and only integers are computed on the CPU", (test) =>
    compare(test, embedded, asWorker));

  it("half precision on a device without it fails with what to do instead", async (test) => {
    const outcome = await loadOnDevice({ modelFolder: small, device: "webgpu", precision: "float16" }).then(
      async ({ engine }) => {
        await engine.release();
        return "loaded";
      },
      (error: unknown) => String(error),
    );
    test.diagnostic(outcome);
    assert.match(
      outcome,
      /^(?:loaded|Error: device webgpu cannot be used: .*; take --precision float32, or --device cpu)$/,
    );
  });

  it("doctor says why there is no adapter, and what to do", () => {
    const ports = ["--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"];
    const args = ["doctor", "--device", "webgpu", "--model", small, "--json", ...ports];
    const { stdout, status } = spawnSync(process.execPath, [...process.execArgv, program, ...args], {
      encoding: "utf8",
      env: { ...process.env, VK_DRIVER_FILES: "/dev/null" },
      timeout: 120_000,
    });
    assert.equal(status, 1, stdout);
    const { findings } = JSON.parse(stdout);
    const image = findings.find(({ name }: { readonly name: string }) => name === "image");
    assert.match(
      image.found,
      /device webgpu cannot be used: Failed to get a WebGPU adapter: .*; install the graphics driver/,
    );
  });
});
