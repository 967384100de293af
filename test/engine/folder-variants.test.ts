import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { GenerationRequest, SchedulerName } from "../../src/engine/engine.js";
import { loadSdxlEngine, type SdxlEngine } from "../../src/engine/sdxl-engine.js";
import { putIntoHubCache } from "../fixtures/hub-cache.js";
import { makeSdxlFolder, type SdxlFolderOptions } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { countingSessions } from "./counting-sessions.js";
import { generateOnce, generationEvents, psnr } from "./generate-once.js";

const heart: GenerationRequest = { prompt: "a red heart", seed: 1, steps: 3 };

async function load(modelFolder: string): Promise<SdxlEngine> {
  const engine = await loadSdxlEngine({ modelFolder });
  after(() => engine.release());
  return engine;
}

const make = async (options: SdxlFolderOptions): Promise<string> =>
  makeSdxlFolder(join(await temporaryFolder(), "variant"), options);

describe("SDXL folder", () => {
  let usual: Uint8Array;
  before(async () => {
    usual = (await generateOnce(await load(await make({})), heart)).pixels.data;
  });

  const typeVariants = (["float32", "float16"] as const).flatMap((floatType) =>
    (["int32", "int64"] as const).flatMap((idType) =>
      ([0, 1] as const).flatMap((timestepRank) =>
        (["int64", "float32", "float16"] as const).map((timestepType) => ({
          floatType,
          idType,
          timestepRank,
          timestepType,
        })),
      ),
    ),
  );
  for (const variant of typeVariants) {
    const words = `${variant.floatType} weights, ${variant.idType} ids, ${variant.timestepType} timesteps of rank ${variant.timestepRank}`;
    it(`folder with ${words} generates the same image within its precision`, async () => {
      const folder = await make(variant);
      const { pixels } = await generateOnce(await load(folder), heart);
      if (variant.floatType === "float32") {
        assert.deepEqual(pixels.data, usual);
      } else {
        assert.ok(psnr(pixels.data, usual) > 40);
      }
    });
  }

  it("folder with a half-precision UNet and a float32 decoder generates", async () => {
    const mixed = await load(await make({ floatType: "float16", decoderFloatType: "float32" }));
    assert.ok(psnr((await generateOnce(mixed, heart)).pixels.data, usual) > 40);
  });

  const same: readonly [what: string, options: SdxlFolderOptions][] = [
    ["external data", { dataFile: "model.onnx_data" }],
    ["external data of an odd name", { dataFile: "weights.pb" }],
    ["throughline.json", { throughline: { defaultSteps: 9 } }],
    ["tokenizer.json in place of vocab.json and merges.txt", { tokenizerJson: true }],
    [
      "no special_tokens_map.json",
      { leaveOut: ["tokenizer/special_tokens_map.json", "tokenizer_2/special_tokens_map.json"] },
    ],
  ];
  for (const [what, options] of same) {
    it(`folder with ${what} generates the same image`, async () => {
      assert.deepEqual((await generateOnce(await load(await make(options)), heart)).pixels.data, usual);
    });
  }

  it("folder with CRLF line ends and byte order marks generates the same image", async () => {
    const folder = await make({});
    for (const tokenizer of ["tokenizer", "tokenizer_2"]) {
      for (const name of ["merges.txt", "vocab.json"]) {
        const file = join(folder, tokenizer, name);
        const text = await readFile(file, "utf8");
        await writeFile(file, `\uFEFF${text.replaceAll("\n", "\r\n")}`);
      }
    }
    assert.deepEqual((await generateOnce(await load(folder), heart)).pixels.data, usual);
  });

  it("folder with null special tokens generates the same image", async () => {
    const folder = await make({});
    const file = join(folder, "tokenizer/special_tokens_map.json");
    const content: unknown = JSON.parse(await readFile(file, "utf8"));
    const absent = { pad_token: null, unk_token: null, model_max_length: null };
    await writeFile(file, JSON.stringify(Object.assign({}, content, absent)));
    assert.deepEqual((await generateOnce(await load(folder), heart)).pixels.data, usual);
  });

  it("folder without special_tokens_map.json pads as tokenizer_config.json defines", async () => {
    const leaveOut = ["tokenizer/special_tokens_map.json", "tokenizer_2/special_tokens_map.json"];
    const bare = await load(await make({ bareConfigs: true, leaveOut }));
    // The scheduler's spacing is another without its key; that of the class is diffusers' default.
    const spaced = await load(await make({ schedulerConfig: { timestep_spacing: "linspace", steps_offset: 0 } }));
    assert.deepEqual((await generateOnce(bare, heart)).pixels, (await generateOnce(spaced, heart)).pixels);
  });

  for (const dataFile of [undefined, "model.onnx_data"]) {
    it(`folder in the Hub cache, graphs and ${dataFile ?? "no data"} as links into blobs, generates under its id`, async () => {
      const folder = await make({ dataFile });
      const snapshot = await putIntoHubCache(folder, await temporaryFolder(), "acme/tiny-xl--small");
      const engine = await load(snapshot);
      assert.equal(engine.info.model, "acme/tiny-xl--small");
      assert.deepEqual((await generateOnce(engine, heart)).pixels.data, usual);
    });
  }
});

/** What distinguishes the fast descendants of SDXL: their scheduler's configuration, and how they are asked to generate. */
const descendants: readonly {
  readonly name: string;
  readonly options: SdxlFolderOptions;
  readonly scheduler: SchedulerName;
  readonly steps: readonly number[];
  readonly guidanceScale: number;
}[] = [
  {
    name: "SDXL-Turbo",
    options: { schedulerConfig: { _class_name: "EulerAncestralDiscreteScheduler", timestep_spacing: "trailing" } },
    scheduler: "euler-ancestral",
    steps: [1, 2, 3, 4],
    guidanceScale: 0,
  },
  {
    name: "SDXL-Lightning",
    options: { schedulerConfig: { timestep_spacing: "trailing" } },
    scheduler: "euler-discrete",
    steps: [2, 4, 8],
    guidanceScale: 0,
  },
  {
    name: "SDXL-Lightning of one step, which predicts the image itself",
    options: { schedulerConfig: { timestep_spacing: "trailing", prediction_type: "sample" } },
    scheduler: "euler-discrete",
    steps: [1],
    guidanceScale: 0,
  },
  {
    name: "LCM, whose UNet takes the guidance as timestep_cond",
    options: {
      guidanceWidth: 256,
      schedulerConfig: { _class_name: "LCMScheduler", original_inference_steps: 50, timestep_scaling: 10 },
    },
    scheduler: "lcm",
    steps: [1, 4, 8],
    guidanceScale: 8,
  },
  {
    name: "LCM-LoRA, merged into the UNet",
    options: { schedulerConfig: { _class_name: "LCMScheduler" } },
    scheduler: "lcm",
    steps: [4],
    guidanceScale: 1,
  },
];

describe("derivative of SDXL", () => {
  for (const { name, options, scheduler, steps, guidanceScale } of descendants) {
    it(`${name}, generates with its own scheduler and one UNet run a step`, async () => {
      const throughline = { defaultSteps: steps[0], defaultGuidanceScale: guidanceScale };
      let runs = 0;
      const openSession = countingSessions((subModel) => {
        runs += subModel === "unet" ? 1 : 0;
      });
      const engine = await loadSdxlEngine({ modelFolder: await make({ ...options, throughline }), openSession });
      after(() => engine.release());
      const [settings] = await generationEvents(engine, { prompt: "a red heart", seed: 1 });
      assert.ok(settings?.kind === "settings");
      const { scheduler: own, steps: usualSteps, guidanceScale: usualScale } = settings.settings;
      assert.deepEqual([own, usualSteps, usualScale], [scheduler, steps[0], guidanceScale]);
      for (const count of steps) {
        runs = 0;
        const { pixels } = await generateOnce(engine, { prompt: "a red heart", seed: 1, steps: count });
        assert.equal(runs, count);
        assert.ok(new Set(pixels.data).size > 20, `${count} steps give an image`);
      }
    });
  }
});
