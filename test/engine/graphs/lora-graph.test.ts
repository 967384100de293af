import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import type { ExecutionProvider } from "../../../src/engine/device.js";
import { buildClip } from "../../../src/engine/graphs/clip.js";
import { createGraphBuilder, loraScaleInput } from "../../../src/engine/graphs/graph-builder.js";
import { operatorsFor } from "../../../src/engine/graphs/operators.js";
import { clipPlanSchema } from "../../../src/engine/graphs/plan-config.js";
import { createSessionOpener } from "../../../src/engine/sessions-onnx.js";
import { readDiffusersWeights } from "../../../src/engine/weights/diffusers-weights.js";
import { type LoraChanges, readLora } from "../../../src/engine/weights/lora.js";
import { readSingleFile } from "../../../src/engine/weights/single-file.js";
import type { WeightSource } from "../../../src/engine/weights/tensor-location.js";
import { makeLoraFile } from "../../fixtures/lora-file.js";
import { graphGoldens, makeSafetensorsFolder, makeSingleFile } from "../../fixtures/safetensors-model.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";

/* The second text encoder: of its weights, open_clip has one transposed and others in thirds. */

const plan = clipPlanSchema.parse(graphGoldens.configs.text_encoder_2);
const none = new Map<string, never>();

describe("graph with LoRAs", async () => {
  const home = await temporaryFolder();
  const folder = await makeSafetensorsFolder(join(home, "model"), { type: "F16" });
  const weights = await readDiffusersWeights(folder, "text_encoder_2", false);
  const { layers } = buildClip(createGraphBuilder({ weights, compute: "float32", root: "/" }), plan);
  const file = await makeLoraFile(join(home, "lora.safetensors"), "wide", { only: /^text_encoder_2/, type: "F16" });
  const all = { text_encoder: none, text_encoder_2: layers, unet: none };
  const { changes } = await readLora({ name: "lora", file, scale: 1 }, all);

  interface RunOptions {
    readonly source?: WeightSource;
    readonly compute?: "float32" | "float16";
    readonly provider?: ExecutionProvider;
    readonly residence?: "mapped" | "prepared";
    readonly loras?: readonly LoraChanges[];
    readonly scales?: readonly number[];
  }

  /** The summary of the first prompt of the goldens. */
  async function summary(options: RunOptions): Promise<Float32Array> {
    const { source = weights, compute = "float32", provider = "cpu", residence = "mapped" } = options;
    const { loras = [changes.text_encoder_2], scales = [1] } = options;
    const operators = operatorsFor(provider);
    const built = buildClip(createGraphBuilder({ weights: source, compute, root: "/", operators, loras }), plan);
    const session = await createSessionOpener({ threads: 1 })({
      kind: "built",
      subModel: "text_encoder_2",
      file: source.label,
      model: built.model,
      root: "/",
      residence,
    });
    after(() => session.release());
    const inputs = Object.fromEntries(scales.map((scale, i) => [loraScaleInput(i), { data: [scale], shape: [1] }]));
    const ids = { data: graphGoldens.ids[0] ?? [], shape: [1, 77] };
    return (await session.run({ input_ids: ids, ...inputs }, ["text_embeds"]))("text_embeds").data;
  }

  const distance = (one: Float32Array, other: Float32Array): number =>
    one.reduce((most, value, i) => Math.max(most, Math.abs(value - (other[i] ?? Number.NaN))), 0);

  const expected = await summary({});

  it("LoRA changes the values, by its scale", async () => {
    const plain = await summary({ loras: [], scales: [] });
    assert.ok(distance(plain, expected) > 0.1);
    assert.ok(distance(await summary({ scales: [0] }), plain) < 1e-5);
    const half = await summary({ scales: [0.5] });
    assert.ok(distance(half, expected) > 0.05 && distance(half, plain) > 0.05);
  });

  it("two LoRAs add up: the same one twice with halves is the one with the whole scale", async () => {
    const { text_encoder_2: lora } = changes;
    assert.ok(distance(await summary({ loras: [lora, lora], scales: [0.75, 0.25] }), expected) < 1e-5);
    assert.ok(distance(await summary({ loras: [none, lora], scales: [5, 1] }), expected) < 1e-5);
  });

  it("open_clip's transposed projection and thirds of one tensor give the same values", async () => {
    const single = await readSingleFile(await makeSingleFile(join(home, "one.safetensors"), { type: "F16" }));
    assert.ok(distance(await summary({ source: single.weights.text_encoder_2 }), expected) < 1e-5);
  });

  it("prepared weights, half precision and the operators of other providers give the same values", async () => {
    assert.ok(distance(await summary({ residence: "prepared" }), expected) < 1e-5);
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    for (const provider of ["cpu", "cuda", "webgpu", "coreml"] as const) {
      assert.ok(distance(await summary({ provider }), expected) < 1e-5, provider);
      const half = await summary({ provider, compute: "float16" });
      assert.ok(distance(half, expected) / largest < 2e-2, `${provider}: ${distance(half, expected)}`);
    }
  });
});
