import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ModelFolderError } from "../../src/engine/folder-reader.js";
import { readModel } from "../../src/engine/model-folder.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

async function fixture(): Promise<string> {
  return makeSdxlFolder(join(await temporaryFolder(), "model"));
}

/** Replaces keys of a JSON file; undefined takes a key away. */
async function change(folder: string, file: string, changes: Readonly<Record<string, unknown>>): Promise<void> {
  const path = join(folder, file);
  const content: unknown = JSON.parse(await readFile(path, "utf8"));
  await writeFile(path, JSON.stringify(Object.assign({}, content, changes)));
}

async function faultOf(folder: string): Promise<string> {
  const error = await loadSdxlEngine({ modelFolder: folder }).then(
    () => assert.fail("it loads"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ModelFolderError, String(error));
  assert.ok(error.message.includes(folder), "the message names the folder");
  return `${error.fault.file}: expected ${error.fault.expected}, found ${error.fault.found}`;
}

const files = ["tokenizer/tokenizer_config.json", "tokenizer/merges.txt", "tokenizer_2/tokenizer_config.json"];

/** An export may lack these: SDXL's own values are taken then. The fixture is smaller than SDXL. */
const mayBeAbsent = ["model_index.json", "scheduler/scheduler_config.json", "vae_decoder/config.json"];
const ofSdxlSize = ["text_encoder/config.json", "text_encoder_2/config.json", "unet/config.json"];

const graphs = ["text_encoder/model.onnx", "text_encoder_2/model.onnx", "unet/model.onnx", "vae_decoder/model.onnx"];

const wrongFiles: readonly [file: string, changes: Readonly<Record<string, unknown>>, fault: RegExp][] = [
  [
    "tokenizer_2/tokenizer_config.json",
    { model_max_length: 512 },
    /^tokenizer_2\/tokenizer_config\.json: expected "model_max_length" of at most 77, the tokens that the text encoder takes, found 512$/,
  ],
  ["unet/config.json", { in_channels: "four" }, /^unet\/config.json: expected number at "in_channels", found "four"$/],
  [
    "unet/config.json",
    { in_channels: undefined },
    /^unet\/config.json: expected number at "in_channels", found nothing$/,
  ],
  [
    "unet/config.json",
    { in_channels: 8 },
    /^unet\/config.json: expected in_channels 4 \(latent_channels of vae_decoder\), found 8$/,
  ],
  [
    "unet/config.json",
    { cross_attention_dim: 2048 },
    /^unet\/config.json: expected cross_attention_dim 40 .*16 \+ 24\), found 2048$/,
  ],
  [
    "unet/config.json",
    { time_cond_proj_dim: "wide" },
    /^unet\/config.json: expected number at "time_cond_proj_dim", found "wide"$/,
  ],
  [
    "unet/config.json",
    { time_cond_proj_dim: 16 },
    /^unet\/model.onnx: expected an input timestep_cond, found sample, timestep, /,
  ],
  [
    "scheduler/scheduler_config.json",
    { _class_name: "PNDMScheduler" },
    /^scheduler\/.*one of EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, .*, LCMScheduler, UniPCMultistepScheduler, found PNDMScheduler$/,
  ],
  ["scheduler/scheduler_config.json", { use_beta_sigmas: true }, /^scheduler\/.* at "use_beta_sigmas", found true$/],
  [
    "scheduler/scheduler_config.json",
    { timestep_spacing: "odd" },
    /^scheduler\/.*"linspace"\|"leading"\|"trailing".* found "odd"$/,
  ],
  [
    "text_encoder/config.json",
    { num_hidden_layers: 12 },
    /^text_encoder\/model.onnx: expected an output hidden_states.11, found hidden_states.0, /,
  ],
  [
    "tokenizer_2/special_tokens_map.json",
    { pad_token: "<pad>" },
    /^tokenizer_2\/vocab.json: expected every special token, found .*"<pad>"/,
  ],
  ["tokenizer_2/vocab.json", { "red</w>": -1 }, /^tokenizer_2\/vocab.json: .*>=0 at "red<\/w>", found -1$/],
  ["tokenizer/vocab.json", { "red</w>": "1" }, /^tokenizer\/vocab.json: expected number at "red<\/w>", found "1"$/],
  [
    "vae_decoder/config.json",
    { latents_mean: [0, 0] },
    /^vae_decoder\/config.json: expected latents_mean of 4 numbers, found 2$/,
  ],
];

describe("model folder", () => {
  it("folder is read with its settings", async () => {
    const folder = await makeSdxlFolder(join(await temporaryFolder(), "tiny-xl"), {
      latentChannels: 6,
      forceZerosForEmptyPrompt: false,
      throughline: { defaultSteps: 12, defaultGuidanceScale: 4.5 },
    });
    const model = await readModel(folder);
    assert.equal(model.name, "tiny-xl");
    assert.equal(model.path, folder);
    assert.equal(model.forceZerosForEmptyPrompt, false);
    assert.equal(model.vae.latent_channels, 6);
    assert.deepEqual(model.throughline, { defaultSteps: 12, defaultGuidanceScale: 4.5 });
    assert.equal(model.scheduler.className, "EulerDiscreteScheduler");
    const [first, second] = model.tokenizers;
    assert.equal(first("red").ids.at(-1), first("red").ids[2], "the first tokenizer pads with its end token");
    assert.equal(second("red").ids.at(-1), 0, "the second tokenizer pads with !");
  });

  it("folder may have tokenizer.json in place of vocab.json and merges.txt", async () => {
    const folder = await fixture();
    const before = (await readModel(folder)).tokenizers[0]("a red heart");
    const vocab: unknown = JSON.parse(await readFile(join(folder, "tokenizer/vocab.json"), "utf8"));
    const lines = (await readFile(join(folder, "tokenizer/merges.txt"), "utf8")).trim().split("\n").slice(1);
    for (const merges of [lines, lines.map((line) => line.split(" "))]) {
      await writeFile(join(folder, "tokenizer/tokenizer.json"), JSON.stringify({ model: { vocab, merges } }));
      await rm(join(folder, "tokenizer/vocab.json"), { force: true });
      await rm(join(folder, "tokenizer/merges.txt"), { force: true });
      assert.deepEqual((await readModel(folder)).tokenizers[0]("a red heart"), before);
    }
  });

  for (const file of files) {
    it(`folder without ${file} is rejected with the file's name`, async () => {
      const folder = await fixture();
      await rm(join(folder, file));
      assert.equal(await faultOf(folder), `${file}: expected a file, found none`);
    });
  }

  for (const file of [...files, ...mayBeAbsent, ...ofSdxlSize].filter((name) => name.endsWith(".json"))) {
    it(`folder with broken JSON in ${file} is rejected with the file's name`, async () => {
      const folder = await fixture();
      await writeFile(join(folder, file), "{ not json");
      assert.equal(await faultOf(folder), `${file}: expected JSON, found text that is not JSON`);
    });
  }

  it(`folder without ${mayBeAbsent.join(", ")} uses SDXL's own values and notes it`, async () => {
    const folder = await fixture();
    for (const file of mayBeAbsent) {
      await rm(join(folder, file));
    }
    const engine = await loadSdxlEngine({ modelFolder: folder });
    assert.deepEqual(engine.notes.assumptions, [`without ${mayBeAbsent.join(", ")}: SDXL's own values are taken`]);
    assert.equal(engine.info.limits.ownScheduler, "euler-discrete");
    await engine.release();
  });

  it("folder without tokenizers uses CLIP's", async () => {
    const folder = await fixture();
    await rm(join(folder, "tokenizer"), { recursive: true });
    await rm(join(folder, "tokenizer_2"), { recursive: true });
    const model = await readModel(folder);
    assert.deepEqual(model.tokenizers[0]("a red apple").ids.slice(0, 6), [49406, 320, 736, 3055, 49407, 49407]);
    assert.deepEqual(model.tokenizers[1]("a red apple").ids.slice(0, 6), [49406, 320, 736, 3055, 49407, 0]);
    assert.deepEqual(model.assumptions, ["without tokenizer, tokenizer_2: SDXL's own values are taken"]);
  });

  for (const file of ofSdxlSize) {
    it(`folder without ${file} is rejected when SDXL's own values do not fit the rest`, async () => {
      const folder = await fixture();
      await rm(join(folder, file));
      assert.match(
        await faultOf(folder),
        new RegExp(`^${file}: expected a file, since SDXL's own values do not fit .*, found none$`),
      );
    });
  }

  it("folder whose graphs have other widths than its configurations is rejected", async () => {
    const folder = await fixture();
    await change(folder, "text_encoder_2/config.json", { projection_dim: 1280 });
    assert.match(await faultOf(folder), /^unet\/model\.onnx: expected text_embeds of width 1280, found 24$/);
  });

  for (const file of graphs) {
    it(`folder without ${file}, or with another graph in its place, is rejected`, async () => {
      const folder = await fixture();
      const other = graphs[(graphs.indexOf(file) + 2) % graphs.length] ?? "";
      await writeFile(join(folder, file), await readFile(join(folder, other)));
      assert.match(await faultOf(folder), new RegExp(`^${file}: expected (no inputs but|an output) `, "u"));
      await writeFile(join(folder, file), "no graph");
      assert.match(
        await faultOf(folder),
        new RegExp(`^${file}: expected a graph that onnxruntime loads, found .`, "u"),
      );
      await rm(join(folder, file));
      assert.equal(await faultOf(folder), `${file}: expected a file (or model_fp16.onnx in its place), found none`);
    });
  }

  for (const [file, changes, fault] of wrongFiles) {
    it(`folder is rejected when ${file} contains ${JSON.stringify(changes)}`, async () => {
      const folder = await fixture();
      await change(folder, file, changes);
      assert.match(await faultOf(folder), fault);
    });
  }

  for (const [throughline, fault] of [
    [
      { defaultStep: 4 },
      /^throughline\.json: expected only the keys defaultSteps, defaultGuidanceScale, defaultWidth, defaultHeight, maximumSize, previewFactors, previewBias, examplePrompts, found "defaultStep"$/,
    ],
    [
      { previewFactors: [[1, 2, 3]] },
      /^throughline.json: expected previewFactors of 4 rows \(latent channels\), found 1$/,
    ],
    [
      { defaultWidth: 72 },
      /^throughline.json: expected a default width that is a multiple of 16 from 16 to 128, found 72$/,
    ],
  ] as const) {
    it(`folder is rejected when throughline.json contains ${JSON.stringify(throughline)}`, async () => {
      const folder = await makeSdxlFolder(await temporaryFolder(), { throughline });
      assert.match(await faultOf(folder), fault);
    });
  }

  it("missing or empty folder is rejected", async () => {
    assert.equal(
      await faultOf(join(await temporaryFolder(), "nowhere")),
      "model_index.json: expected a file, found no such folder",
    );
    const folder = join(await fixture(), "unet");
    const error = await readModel(join(folder, "model.onnx")).catch((reason: unknown) => reason);
    assert.equal(
      String(error),
      `ModelFolderError: model folder ${folder}: model.onnx: expected a safetensors file, found other bytes than the length of a header`,
    );
  });
});
