import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { GenerationError, type GenerationEvent, type GenerationRequest } from "../../src/engine/engine.js";
import { loadSdxlEngine, type SdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { makeSdxlFolder, type SdxlFolderOptions } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { countingSessions } from "./counting-sessions.js";
import { generateOnce, generationEvents, psnr } from "./generate-once.js";

async function load(options: SdxlFolderOptions = {}, openSession?: OpenSession): Promise<SdxlEngine> {
  const modelFolder = await makeSdxlFolder(join(await temporaryFolder(), "tiny-xl"), options);
  const engine = await loadSdxlEngine({ modelFolder, ...(openSession && { openSession }) });
  after(() => engine.release());
  return engine;
}

const heart: GenerationRequest = { prompt: "a red heart", seed: 1, steps: 4 };

describe("SDXL engine", async () => {
  const engine = await load();

  it("engine has the name of its folder", () => {
    assert.deepEqual([engine.info.model, engine.info.executionProvider], ["tiny-xl", "cpu"]);
  });

  it("engine emits its events in order", async () => {
    const events: GenerationEvent[] = [];
    const { signal } = new AbortController();
    const onEvent = (event: GenerationEvent) => void events.push(event);
    const image = await engine.generate({ ...heart, steps: 3 }, { signal, onEvent });
    const story = events.map((event) =>
      event.kind === "stage"
        ? event.stage
        : event.kind === "step"
          ? `${event.step} of ${event.totalSteps}`
          : event.kind,
    );
    assert.deepEqual(story, ["settings", "text-encoding", "denoising", "1 of 3", "2 of 3", "3 of 3", "vae-decode"]);
    assert.equal(image.pixels.data.length, 64 * 64 * 3);
    for (const ms of Object.values(image.timings)) {
      assert.ok(ms > 0);
    }
  });

  it("engine generates the same bytes for the same request", async () => {
    const [first, second] = [await generateOnce(engine, heart), await generateOnce(await load(), heart)];
    assert.deepEqual(first.pixels, second.pixels);
    assert.ok(new Set(first.pixels.data).size > 50, "it is an image");
  });

  it("engine generates another image for another seed, prompt, negative prompt, guidance, number of steps, clip skip, guidance rescale or size", async () => {
    const { pixels } = await generateOnce(engine, heart);
    const others: Partial<GenerationRequest>[] = [
      { seed: 2 },
      { prompt: "a cat" },
      { negativePrompt: "cat" },
      { negativePrompt: "" },
      { guidanceScale: 9 },
      { steps: 5 },
      { clipSkip: 1 },
      { guidanceRescale: 0.7 },
    ];
    for (const other of others) {
      const changed = await generateOnce(engine, { ...heart, ...other });
      assert.notDeepEqual(changed.pixels.data, pixels.data, JSON.stringify(other));
    }
    const seed = await generateOnce(engine, { ...heart, seed: 2 });
    assert.ok(psnr(seed.pixels.data, pixels.data) < 25);
    const wide = await generateOnce(engine, { ...heart, width: 96, height: 32 });
    assert.deepEqual([wide.pixels.width, wide.pixels.height, wide.pixels.data.length], [96, 32, 96 * 32 * 3]);
  });

  it("engine encodes a missing negative prompt as an empty one when the model does not force zeros", async () => {
    const encoding = await load({ forceZerosForEmptyPrompt: false });
    const absent = await generateOnce(encoding, heart);
    assert.deepEqual(absent.pixels, (await generateOnce(encoding, { ...heart, negativePrompt: "" })).pixels);
    assert.deepEqual(absent.pixels, (await generateOnce(engine, { ...heart, negativePrompt: "" })).pixels);
  });

  it("engine takes the number of latent channels from the model", async () => {
    const { pixels } = await generateOnce(await load({ latentChannels: 8 }), heart);
    assert.equal(pixels.data.length, 64 * 64 * 3);
  });

  it("engine uses the model's own defaults", async () => {
    const throughline = { defaultSteps: 3, defaultGuidanceScale: 2.5, defaultWidth: 32, defaultHeight: 48 };
    const [settings] = await generationEvents(await load({ throughline }), { prompt: "a cat", seed: 7 });
    assert.deepEqual(settings, {
      kind: "settings",
      settings: {
        ...{ width: 32, height: 48, steps: 3, guidanceScale: 2.5, seed: 7 },
        ...{ scheduler: "euler-discrete", clipSkip: 0, guidanceRescale: 0 },
      },
    });
    const [usual] = await generationEvents(engine, { prompt: "a cat", seed: 7, steps: 1 });
    assert.ok(usual?.kind === "settings");
    assert.deepEqual([usual.settings.width, usual.settings.height, usual.settings.guidanceScale], [64, 64, 5]);
  });

  it("engine skips as many layers as both text encoders have hidden states for, and names that maximum", async () => {
    assert.equal(engine.info.limits.maximumClipSkip, 1);
    await assert.rejects(generateOnce(engine, { ...heart, clipSkip: 2 }), {
      message: /^clipSkip: this model takes a whole number from 0 to 1$/,
    });
    const open = createSessionOpener();
    const lastOnly = await load({}, async (graph) => {
      const session = await open(graph);
      const outputs = session.outputs.filter((name) => name !== "hidden_states.0");
      return graph.subModel === "text_encoder_2" ? { ...session, outputs } : session;
    });
    assert.equal(lastOnly.info.limits.maximumClipSkip, 0);
  });

  it("engine batches guidance for a small image and runs the text encoders no more than needed", async () => {
    const runs: string[] = [];
    const counting = await load(
      {},
      countingSessions((subModel) => void runs.push(subModel)),
    );
    const count = (subModel: string) => runs.filter((run) => run === subModel).length;
    await generateOnce(counting, heart);
    assert.deepEqual(
      [count("text_encoder"), count("text_encoder_2"), count("unet"), count("vae_decoder")],
      [1, 1, 4, 1],
    );
    runs.length = 0;
    await generateOnce(counting, { ...heart, prompt: "a cat", guidanceScale: 1, negativePrompt: "cat" });
    assert.deepEqual(
      [count("text_encoder"), count("text_encoder_2"), count("unet"), count("vae_decoder")],
      [1, 1, 4, 1],
    );
    runs.length = 0;
    await generateOnce(counting, { ...heart, prompt: "the cat", negativePrompt: "cat" });
    assert.deepEqual(
      [count("text_encoder"), count("text_encoder_2"), count("unet"), count("vae_decoder")],
      [2, 2, 4, 1],
    );
  });

  it("engine encodes no text twice and reports its cache hits", async () => {
    const runs: string[] = [];
    const counting = await load(
      { forceZerosForEmptyPrompt: false },
      countingSessions((subModel) => void runs.push(subModel)),
    );
    const generate = async (change: Partial<GenerationRequest>) => {
      runs.length = 0;
      const { promptCache, pixels } = await generateOnce(counting, { ...heart, ...change });
      return { ...promptCache, encoderRuns: runs.filter((run) => run.startsWith("text_encoder")).length, pixels };
    };
    const { pixels, ...first } = await generate({});
    assert.deepEqual(first, { hits: 0, misses: 2, encoderRuns: 4 });
    assert.deepEqual(await generate({}), { hits: 2, misses: 0, encoderRuns: 0, pixels });
    assert.deepEqual(await generate({ negativePrompt: "" }), { hits: 2, misses: 0, encoderRuns: 0, pixels });
    const { pixels: other, ...changed } = await generate({ negativePrompt: "cat" });
    assert.deepEqual(changed, { hits: 1, misses: 1, encoderRuns: 2 });
    assert.notDeepEqual(other, pixels);
    const { pixels: _, ...unguided } = await generate({ guidanceScale: 1, negativePrompt: "not looked at" });
    assert.deepEqual(unguided, { hits: 1, misses: 0, encoderRuns: 0 });
  });

  it("engine runs the UNet twice a step when half a step fills the CPU", async () => {
    const runs: string[] = [];
    const counting = await load(
      { throughline: { maximumSize: 256 } },
      countingSessions((subModel) => void runs.push(subModel)),
    );
    await generateOnce(counting, { ...heart, width: 256, height: 256 });
    assert.equal(runs.filter((run) => run === "unet").length, 8);
  });

  it("engine guides with one run a step on another device than the CPU, with nearly the same image", async () => {
    const throughline = { maximumSize: 256 };
    const modelFolder = await makeSdxlFolder(join(await temporaryFolder(), "tiny-xl"), { throughline });
    const runs: string[] = [];
    const openSession = countingSessions((subModel) => void runs.push(subModel));
    const batching = await loadSdxlEngine({ modelFolder, openSession, provider: "cuda" });
    after(() => batching.release());
    const single = await loadSdxlEngine({ modelFolder, openSession, provider: "cpu" });
    after(() => single.release());
    const large = { ...heart, negativePrompt: "cat", width: 256, height: 256 };
    const { pixels } = await generateOnce(batching, large);
    assert.equal(runs.filter((run) => run === "unet").length, 4);
    assert.ok(psnr(pixels.data, (await generateOnce(single, large)).pixels.data) > 55);
  });

  it("engine passes the guidance scale to a UNet with guidance embedding and runs it once a step", async () => {
    const runs: string[] = [];
    const selfGuiding = await load(
      { guidanceWidth: 16 },
      countingSessions((subModel) => void runs.push(subModel)),
    );
    const image = async (guidanceScale: number) =>
      (await generateOnce(selfGuiding, { ...heart, scheduler: "lcm", guidanceScale })).pixels.data;
    const eight = await image(8);
    assert.deepEqual(
      runs.filter((run) => run !== "vae_decoder"),
      ["text_encoder", "text_encoder_2", "unet", "unet", "unet", "unet"],
    );
    assert.notDeepEqual(await image(2), eight);
    assert.notDeepEqual(await image(1), eight);
  });

  it("engine reports the truncated tokens of the prompt", async () => {
    assert.equal((await generateOnce(engine, { ...heart, prompt: "red ".repeat(75) })).truncatedTokens, 0);
    assert.equal((await generateOnce(engine, { ...heart, prompt: "red ".repeat(80) })).truncatedTokens, 5);
  });

  it("engine sends a preview at the requested interval, one pixel per latent", async () => {
    const previews = async (options: SdxlFolderOptions) => {
      const events = await generationEvents(await load(options), { ...heart, steps: 5, previewInterval: 2 });
      return events.flatMap((event) => (event.kind === "step" ? [event.preview] : []));
    };
    const known = await previews({});
    assert.deepEqual(
      known.map((preview) => preview !== undefined),
      [false, true, false, true, false],
    );
    assert.deepEqual([known[1]?.width, known[1]?.height, known[1]?.data.length], [8, 8, 8 * 8 * 3]);
    assert.ok(
      (await previews({ latentChannels: 6 })).every((preview) => preview === undefined),
      "nobody knows the factors",
    );
    const row = [0, 0, 0] as const;
    const grey = await previews({
      latentChannels: 2,
      throughline: { previewFactors: [row, row], previewBias: [0, 1, -1] },
    });
    assert.deepEqual([...(grey[1]?.data.slice(0, 3) ?? [])], [128, 255, 0]);
  });

  const rejected: readonly [Partial<GenerationRequest>, string, RegExp][] = [
    [{ width: 72 }, "width", /^width: this model takes a multiple of 16 from 16 to 128$/],
    [{ height: 144 }, "height", /^height: this model takes a multiple of 16 from 16 to 128$/],
    [{ width: 0 }, "width", /multiple of 16/],
    [{ steps: 1001 }, "steps", /^steps: this model takes a whole number from 1 to 1000$/],
    [{ steps: 0 }, "steps", /from 1 to 1000$/],
    [{ seed: -1 }, "seed", /from 0 to 4294967295; leave it out for a random one$/],
    [{ guidanceScale: Number.NaN }, "guidanceScale", /a finite number$/],
  ];
  for (const [change, field, message] of rejected) {
    it(`engine rejects ${JSON.stringify(change)} before any run`, async () => {
      await assert.rejects(generationEvents(engine, { ...heart, ...change }), (error) => {
        assert.ok(error instanceof GenerationError);
        assert.deepEqual([error.kind, ...error.violations.map((each) => each.field)], ["unsupported", field]);
        assert.match(error.message, message);
        return true;
      });
    });
  }

  it("engine takes the maximum size from throughline.json", async () => {
    const small = await load({ throughline: { maximumSize: 70 } });
    await assert.rejects(generationEvents(small, { ...heart, width: 80 }), /a multiple of 16 from 16 to 64$/);
  });

  it("engine names the remedy when the decoder overflows", async () => {
    await assert.rejects(generationEvents(await load({ brokenDecoder: true }), heart), (error) => {
      assert.ok(error instanceof GenerationError);
      assert.equal(error.kind, "failed");
      assert.match(error.message, /float32 or from sdxl-vae-fp16-fix/);
      return true;
    });
  });

  it("engine reports a failed run as a failed generation, with the cause for the log only", async () => {
    const cause = new Error("bad allocation at /somewhere");
    const failing = await load(
      {},
      countingSessions(() => Promise.reject(cause)),
    );
    await assert.rejects(generationEvents(failing, heart), (error) => {
      assert.ok(error instanceof GenerationError);
      assert.deepEqual([error.kind, error.cause], ["failed", cause]);
      assert.match(error.message, /out of memory/);
      assert.doesNotMatch(error.message, /somewhere/);
      return true;
    });
  });

  it("engine stops before the next sub-model run when aborted and throws the signal's reason", async () => {
    for (const abortAt of ["text_encoder", "text_encoder_2", "unet"]) {
      const controller = new AbortController();
      const reason = new Error("changed my mind");
      const runs: string[] = [];
      const counting = await load(
        {},
        countingSessions((subModel) => {
          runs.push(subModel);
          if (subModel === abortAt) {
            controller.abort(reason);
          }
        }),
      );
      await assert.rejects(generationEvents(counting, heart, controller.signal), reason);
      assert.equal(runs.at(-1), abortAt);
      assert.equal(runs.filter((run) => run === "unet").length, abortAt === "unet" ? 1 : 0);
    }
  });

  it("engine runs nothing for an aborted signal", async () => {
    const reason = new Error("too late");
    await assert.rejects(generationEvents(engine, heart, AbortSignal.abort(reason)), reason);
  });
});
