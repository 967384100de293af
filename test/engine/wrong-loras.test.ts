import assert from "node:assert/strict";
import { rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { startEngineProcess } from "../../src/engine/child/engine-process.js";
import { GenerationError } from "../../src/engine/engine.js";
import { buildClip } from "../../src/engine/graphs/clip.js";
import { type BuiltGraph, createGraphBuilder, type GraphBuilder } from "../../src/engine/graphs/graph-builder.js";
import { clipPlanSchema, unetPlanSchema } from "../../src/engine/graphs/plan-config.js";
import { buildUnet } from "../../src/engine/graphs/unet.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import { readDiffusersWeights } from "../../src/engine/weights/diffusers-weights.js";
import { LoraError, type LoraLayers, type LoraSource, readLora } from "../../src/engine/weights/lora.js";
import type { LoraPart } from "../../src/engine/weights/lora-names.js";
import { type LoraFileOptions, makeLoraFile } from "../fixtures/lora-file.js";
import { type FixtureTensor, fixtureTensor, writeSafetensors } from "../fixtures/safetensors-file.js";
import { graphGoldens, makeSafetensorsFolder, makeSingleFile } from "../fixtures/safetensors-model.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce } from "./generate-once.js";

/** What LoRAs can change in the small SDXL. */
async function layersOf(folder: string): Promise<LoraLayers> {
  const { text_encoder, text_encoder_2, unet } = graphGoldens.configs;
  const build = async (part: LoraPart, of: (g: GraphBuilder) => BuiltGraph) => {
    const weights = await readDiffusersWeights(folder, part, false);
    return of(createGraphBuilder({ weights, compute: "float32", root: "/" })).layers;
  };
  return {
    text_encoder: await build("text_encoder", (g) => buildClip(g, clipPlanSchema.parse(text_encoder))),
    text_encoder_2: await build("text_encoder_2", (g) => buildClip(g, clipPlanSchema.parse(text_encoder_2))),
    unet: await build("unet", (g) => buildUnet(g, unetPlanSchema.parse(unet))),
  };
}

const tensor = (...shape: number[]): FixtureTensor => fixtureTensor("any", shape);
const attention = "down_blocks.1.attentions.0.transformer_blocks.0.attn2";
const kohyaKey = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k";

describe("LoRA file that cannot be used", async () => {
  const home = await temporaryFolder();
  const modelFolder = await makeSafetensorsFolder(join(home, "model"), { type: "F16", fewWords: true });
  const file = join(home, "style.safetensors");

  const layers = await layersOf(modelFolder);

  /** The message of what the file is rejected with, without its beginning. */
  async function faultOf(read: (source: LoraSource) => Promise<unknown> = (source) => readLora(source, layers)) {
    const error = await read({ name: "style", file, scale: 1 }).then(
      () => assert.fail("it is taken"),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof LoraError, String(error));
    const start = `LoRA "style" (${file}): `;
    assert.ok(error.message.startsWith(start), error.message);
    return error.message.slice(start.length);
  }

  const changed: readonly (readonly [what: string, change: NonNullable<LoraFileOptions["change"]>, fault: RegExp])[] = [
    [
      "of SD 1.5, by its text's width",
      (tensors) =>
        tensors.set(`${kohyaKey}.lora_down.weight`, tensor(4, 768)).set(`${kohyaKey}.lora_up.weight`, tensor(64, 4)),
      /expected lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k\.lora_down\.weight of shape \[4,128\], found \[4,768\]: it was trained for another model/,
    ],
    [
      "of another width",
      (tensors) =>
        tensors.set(`${kohyaKey}.lora_down.weight`, tensor(4, 128)).set(`${kohyaKey}.lora_up.weight`, tensor(640, 4)),
      /attn2_to_k\.lora_up\.weight of shape \[64,4\], found \[640,4\]/,
    ],
    [
      "whose factors have different ranks",
      (tensors) =>
        tensors.set(`${kohyaKey}.lora_down.weight`, tensor(4, 128)).set(`${kohyaKey}.lora_up.weight`, tensor(64, 8)),
      /attn2_to_k\.lora_up\.weight of shape \[64,4\], found \[64,8\]/,
    ],
    [
      "with a convolution's factor for a linear layer",
      (tensors) =>
        tensors
          .set(`${kohyaKey}.lora_down.weight`, tensor(4, 128, 3, 3))
          .set(`${kohyaKey}.lora_up.weight`, tensor(64, 4)),
      /of shape \[4,128\], found \[4,128,3,3\]/,
    ],
    [
      "with tensors left over",
      (tensors) =>
        tensors.set("lora_unet_input_blocks_99_1_proj_in.lora_down.weight", tensor(4, 64)).set("extra", tensor(1)),
      /expected tensors for layers of this model only, found lora_unet_input_blocks_99_1_proj_in\.lora_down\.weight and 1 more/,
    ],
    [
      "with one factor of two",
      (tensors) => tensors.set(`${kohyaKey}.lora_down.weight`, tensor(4, 128)),
      /found lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k\.lora_down\.weight$/,
    ],
    [
      "with NaN",
      (tensors) =>
        tensors
          .set(`${kohyaKey}.lora_down.weight`, tensor(4, 128))
          .set(`${kohyaKey}.lora_up.weight`, { shape: [64, 4], values: new Float32Array(256).fill(Number.NaN, 255) }),
      /expected numbers in lora_unet_input_blocks_4_1_\w+attn2_to_k\.lora_up\.weight, found NaN or an infinity/,
    ],
    [
      "with an infinite alpha",
      (tensors) =>
        tensors
          .set(`${kohyaKey}.lora_down.weight`, tensor(4, 128))
          .set(`${kohyaKey}.lora_up.weight`, tensor(64, 4))
          .set(`${kohyaKey}.alpha`, { shape: [], values: Float32Array.of(Number.POSITIVE_INFINITY) }),
      /expected a number in lora_unet_input_blocks_4_1_\w+attn2_to_k\.alpha, found Infinity/,
    ],
    ...(
      [
        ["hada_w1_a", "a LoHa"],
        ["lokr_w1", "a LoKr"],
        ["dora_scale", "a DoRA"],
        ["oft_blocks", "an OFT"],
        ["lora_mid.weight", "a LoCon with Tucker (CP) decomposition"],
        ["diff", "a difference of whole weights"],
      ] as const
    ).map(
      ([end, what]) =>
        [
          `that is ${what}`,
          (tensors: Map<string, FixtureTensor>) => void tensors.set(`${kohyaKey}.${end}`, tensor(4, 4)),
          new RegExp(
            `expected a plain LoRA for SDXL, found ${what.replace(/[()]/g, "\\$&")} \\(${kohyaKey}\\.${end}\\)`,
          ),
        ] as const,
    ),
  ];
  for (const [what, change, fault] of changed) {
    it(`LoRA ${what} is rejected at the start`, async () => {
      await makeLoraFile(file, "wide", { only: /^text_encoder\.|unet\.conv_in$/, type: "F16", change });
      assert.match(await faultOf(), fault);
    });
  }

  it("PEFT's DoRA and patterns that are regular expressions are rejected by their keys in the metadata", async () => {
    const of = async (config: object) => {
      const metadata = { lora_adapter_metadata: JSON.stringify(config) };
      await makeLoraFile(file, "narrow", { dialect: "diffusers", metadata });
      return faultOf();
    };
    assert.match(await of({ "unet.use_dora": true }), /lora_adapter_metadata .* found unet\.use_dora: false, since/);
    assert.match(await of({ "unet.lora_alpha": "8" }), /found unet\.lora_alpha: /);
    const pattern = await of({ "unet.alpha_pattern": { "^down_blocks.*to_q": 8 } });
    assert.match(pattern, /names of layers in unet\.alpha_pattern, found the regular expression "\^down_blocks/);
    assert.match(await of([1]), /lora_adapter_metadata that is a JSON object/);
  });

  it("truncated, empty, missing and foreign files are rejected", async () => {
    await makeLoraFile(file, "narrow", { dialect: "diffusers" });
    await truncate(file, 20_000);
    assert.match(await faultOf(), /the file is cut off, fetch it again/);
    await writeFile(file, "");
    assert.match(await faultOf(), /expected a safetensors file, found 0 bytes/);
    await rename(file, join(home, "gone"));
    assert.equal(await faultOf(), "there is no such file");
    await makeSingleFile(file, { type: "F16" });
    assert.match(await faultOf(), /found a checkpoint, which --model takes \(model\.diffusion_model\./);
    await writeSafetensors(file, new Map([["fc.weight", tensor(2, 2)]]));
    assert.match(await faultOf(), /expected a LoRA for SDXL, found tensors of none, such as fc\.weight/);
    await writeSafetensors(file, new Map([[`transformer.blocks.0.${attention}.lora_A.weight`, tensor(2, 2)]]));
    assert.match(await faultOf(), /found a LoRA of another architecture than SDXL/);
  });

  it("model of exported graphs takes no LoRA, neither at the start nor in a request", async () => {
    const exported = await makeSdxlFolder(join(home, "onnx-xl"));
    assert.match(
      await faultOf((lora) => loadSdxlEngine({ modelFolder: exported, loras: [lora] })),
      /the model onnx-xl is of exported ONNX graphs, which LoRAs cannot change; take/,
    );
    const engine = await loadSdxlEngine({ modelFolder: exported });
    after(() => engine.release());
    await assert.rejects(generateOnce(engine, { prompt: "a", seed: 1, loras: [{ name: "style" }] }), (error) => {
      assert.ok(error instanceof GenerationError);
      assert.match(
        error.message,
        /^loras\[0\]\.name: this model takes no LoRAs, because its graphs are exported ones$/,
      );
      return true;
    });
  });

  it("engine's process reports a LoRA that cannot be used, and no other device is tried", async () => {
    await writeFile(file, "");
    const failures: unknown[] = [];
    const started = startEngineProcess({
      modelFolder,
      device: "auto",
      loras: [{ name: "style", file, scale: 1 }],
      onDeviceFailure: (failure) => failures.push(failure),
    });
    await assert.rejects(started, /^Error: LoRA "style" \(.*\): expected a safetensors file, found 0 bytes$/);
    assert.deepEqual(failures, []);
  });
});
