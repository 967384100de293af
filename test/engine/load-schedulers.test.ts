import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { GenerationError, type SchedulerName } from "../../src/engine/engine.js";
import { ModelFolderError } from "../../src/engine/folder-reader.js";
import { readModel } from "../../src/engine/model-folder.js";
import { loadSchedulers } from "../../src/engine/schedulers.js";
import { loadSdxlEngine, type SdxlEngine } from "../../src/engine/sdxl-engine.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce, generationEvents } from "./generate-once.js";

type Config = Readonly<Record<string, unknown>>;

const fixture = async (schedulerConfig: Config): Promise<string> =>
  makeSdxlFolder(join(await temporaryFolder(), "model"), { schedulerConfig });

async function load(modelFolder: string): Promise<SdxlEngine> {
  const engine = await loadSdxlEngine({ modelFolder });
  after(() => engine.release());
  return engine;
}

const names: readonly SchedulerName[] = [
  "euler-discrete",
  "euler-ancestral",
  "dpmpp-2m",
  "dpmpp-2m-karras",
  "ddim",
  "lcm",
  "unipc",
  "dpmpp-2m-sde",
  "dpmpp-2m-sde-karras",
];
const heart = { prompt: "a red heart", seed: 1, steps: 4 };

describe("schedulers of a model folder", () => {
  const own: readonly [SchedulerName, Config][] = [
    ["euler-discrete", { _class_name: "EulerDiscreteScheduler" }],
    ["euler-discrete", { _class_name: "EulerDiscreteScheduler", use_karras_sigmas: true }],
    ["euler-ancestral", { _class_name: "EulerAncestralDiscreteScheduler", timestep_spacing: "trailing" }],
    ["dpmpp-2m", { _class_name: "DPMSolverMultistepScheduler", use_karras_sigmas: null }],
    ["dpmpp-2m-karras", { _class_name: "DPMSolverMultistepScheduler", use_karras_sigmas: true }],
    ["ddim", { _class_name: "DDIMScheduler", timestep_spacing: "trailing" }],
    ["lcm", { _class_name: "LCMScheduler", original_inference_steps: 100 }],
    ["unipc", { _class_name: "UniPCMultistepScheduler", solver_order: 3, disable_corrector: [0] }],
    ["dpmpp-2m-sde", { _class_name: "DPMSolverMultistepScheduler", algorithm_type: "sde-dpmsolver++" }],
    [
      "dpmpp-2m-sde-karras",
      { _class_name: "DPMSolverMultistepScheduler", algorithm_type: "sde-dpmsolver++", use_karras_sigmas: true },
    ],
  ];
  for (const [name, config] of own) {
    it(`${name} is the first scheduler for ${JSON.stringify(config)}, and each scheduler generates`, async () => {
      const engine = await load(await fixture(config));
      const images = new Map<string, SchedulerName>();
      for (const scheduler of names) {
        const { pixels } = await generateOnce(engine, { ...heart, scheduler });
        assert.ok(new Set(pixels.data).size > 50, `${scheduler} generates an image`);
        images.set(Buffer.from(pixels.data).toString("base64"), scheduler);
      }
      const [settings] = await generationEvents(engine, heart);
      assert.equal(settings?.kind === "settings" && settings.settings.scheduler, name);
      const image = Buffer.from((await generateOnce(engine, heart)).pixels.data).toString("base64");
      assert.equal(images.get(image), name);
      assert.equal(images.size, names.length, "no two of them generate the same");
    });
  }

  it("schedulers that do not fit the configuration are rejected by their field", async () => {
    const engine = await load(await fixture({ prediction_type: "sample" }));
    await generateOnce(engine, { ...heart, scheduler: "ddim" });
    await assert.rejects(generationEvents(engine, { ...heart, scheduler: "euler-ancestral" }), (error) => {
      assert.ok(error instanceof GenerationError);
      assert.deepEqual([error.kind, ...error.violations.map(({ field }) => field)], ["unsupported", "scheduler"]);
      assert.match(error.message, /this model's configuration does not fit that scheduler/);
      return true;
    });
  });

  it("schedulers accept at most the steps of their algorithm", async () => {
    const engine = await load(await fixture({ original_inference_steps: 8 }));
    await assert.rejects(
      generationEvents(engine, { ...heart, steps: 9, scheduler: "lcm" }),
      /a whole number from 1 to 8$/,
    );
    const [settings] = await generationEvents(engine, { prompt: "", seed: 1, scheduler: "lcm" });
    assert.equal(settings?.kind === "settings" && settings.settings.steps, 8);
  });

  it("scheduler configuration written by Python is read with infinities", async () => {
    const folder = await fixture({
      _class_name: "DPMSolverMultistepScheduler",
      lambda_min_clipped: 0,
      note: "-Infinity",
    });
    const file = join(folder, "scheduler/scheduler_config.json");
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace('"lambda_min_clipped": 0', '"lambda_min_clipped": -Infinity'));
    const model = await readModel(folder);
    assert.equal(model.scheduler.config["lambda_min_clipped"], Number.NEGATIVE_INFINITY);
    assert.equal(model.scheduler.config["note"], "-Infinity");
    assert.equal(loadSchedulers(model).own, "dpmpp-2m");
  });

  const rejected: readonly [Config, RegExp][] = [
    [{ _class_name: "DPMSolverMultistepScheduler", solver_order: 4 }, /1\|2\|3 at "solver_order"/],
    [
      { _class_name: "DPMSolverMultistepScheduler", algorithm_type: "dpmsolver" },
      /at "algorithm_type", found "dpmsolver"/,
    ],
    [{ _class_name: "DPMSolverMultistepScheduler", algorithm_type: "sde-dpmsolver" }, /algorithm_type/],
    [{ _class_name: "DPMSolverMultistepScheduler", variance_type: "learned_range" }, /variance_type/],
    [
      { _class_name: "DPMSolverMultistepScheduler", algorithm_type: "sde-dpmsolver++", thresholding: true },
      /thresholding/,
    ],
    [
      {
        _class_name: "DPMSolverMultistepScheduler",
        algorithm_type: "sde-dpmsolver++",
        use_karras_sigmas: true,
        final_sigmas_type: "sigma_min",
        sigma_min: 0.001,
      },
      /more noise has no solution at "sigma_min"/,
    ],
    [{ _class_name: "DPMSolverSDEScheduler" }, /"_class_name" one of .*UniPCMultistepScheduler/],
    [{ _class_name: "UniPCMultistepScheduler", solver_order: 4 }, /1\|2\|3 at "solver_order"/],
    [{ _class_name: "UniPCMultistepScheduler", solver_type: "bh1" }, /at "solver_type", found "bh1"/],
    [{ _class_name: "UniPCMultistepScheduler", predict_x0: false }, /at "predict_x0", found false/],
    [{ _class_name: "UniPCMultistepScheduler", lower_order_final: false }, /at "lower_order_final", found false/],
    [{ _class_name: "UniPCMultistepScheduler", thresholding: true }, /thresholding/],
    [{ _class_name: "UniPCMultistepScheduler", prediction_type: "flow_prediction" }, /prediction_type/],
    [{ _class_name: "UniPCMultistepScheduler", use_flow_sigmas: true }, /use_flow_sigmas/],
    [{ _class_name: "UniPCMultistepScheduler", use_beta_sigmas: true }, /use_beta_sigmas/],
    [{ _class_name: "UniPCMultistepScheduler", use_exponential_sigmas: true }, /use_exponential_sigmas/],
    [{ _class_name: "UniPCMultistepScheduler", use_dynamic_shifting: true }, /use_dynamic_shifting/],
    [{ _class_name: "UniPCMultistepScheduler", solver_p: { _class_name: "DDIMScheduler" } }, /solver_p/],
    [{ _class_name: "UniPCMultistepScheduler", shift_terminal: 0.1 }, /shift_terminal/],
    [{ _class_name: "DPMSolverMultistepScheduler", use_lu_lambdas: true }, /use_lu_lambdas/],
    [{ _class_name: "DPMSolverMultistepScheduler", use_flow_sigmas: true }, /use_flow_sigmas/],
    [{ _class_name: "EulerAncestralDiscreteScheduler", prediction_type: "sample" }, /prediction_type/],
    [{ _class_name: "DDIMScheduler", thresholding: true }, /thresholding/],
    [{ _class_name: "LCMScheduler", original_inference_steps: 1001 }, /at most num_train_timesteps/],
    [{ _class_name: "LCMScheduler", rescale_betas_zero_snr: true }, /nothing but noise at "prediction_type"/],
    [
      { _class_name: "DDIMScheduler", rescale_betas_zero_snr: true, timestep_spacing: "trailing" },
      /nothing but noise at "prediction_type"/,
    ],
  ];
  for (const [config, fault] of rejected) {
    it(`schedulers are rejected when the folder's own would generate wrong images: ${JSON.stringify(config)}`, async () => {
      const model = await readModel(await fixture(config));
      assert.throws(
        () => loadSchedulers(model),
        (error) => error instanceof ModelFolderError && fault.test(error.message),
      );
    });
  }
});
