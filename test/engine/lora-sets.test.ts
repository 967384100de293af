import assert from "node:assert/strict";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { GenerationError } from "../../src/engine/engine.js";
import type { LoraGraphs } from "../../src/engine/lora-graphs.js";
import { createLoraSets } from "../../src/engine/lora-sets.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { InputTensor, ModelSession } from "../../src/engine/sessions.js";
import { LoraError } from "../../src/engine/weights/lora.js";
import { type LoraPart, loraParts } from "../../src/engine/weights/lora-names.js";
import { makeLoraFile } from "../fixtures/lora-file.js";
import { makeSafetensorsFolder } from "../fixtures/safetensors-model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce } from "./generate-once.js";

/** What each LoRA changes. */
const changed: Readonly<Record<string, readonly LoraPart[]>> = {
  text: ["text_encoder"],
  unet: ["unet"],
  both: ["text_encoder", "unet"],
};
const touches = (name: string, part: LoraPart): boolean => changed[name]?.includes(part) ?? false;

/** Sets over sessions that do nothing but count. */
function makeSets(onOpen: () => void = () => {}, hasRoom: (bytes: number) => boolean = () => true) {
  const story: string[] = [];
  const feeds: Readonly<Record<string, InputTensor>>[] = [];
  const session = (name: string): ModelSession => ({
    inputs: new Map(),
    outputs: [],
    async run(given) {
      feeds.push(given);
      return () => ({ data: new Float32Array(), shape: [0] });
    },
    release: async () => void story.push(`release ${name}`),
  });
  const graphs: LoraGraphs = {
    notes: [],
    changesText: (name) => touches(name, "text_encoder") || touches(name, "text_encoder_2"),
    build: (names) =>
      loraParts
        .filter((part) => names.some((name) => touches(name, part)))
        .map((subModel) => ({
          kind: "built",
          subModel,
          file: subModel,
          model: new Uint8Array(),
          root: "/",
          residence: "mapped",
        })),
    mappedBytes: (names) => 1000 * names.length,
    checkUnchanged: async () => {},
  };
  const base = { textEncoders: [session("first"), session("second")], unet: session("base") } as const;
  const sets = createLoraSets({
    base,
    graphs,
    async openSession({ subModel }) {
      story.push(`open ${subModel}`);
      onOpen();
      return session(subModel);
    },
    capacity: 2,
    hasRoom,
    checkUnchanged: async () => {},
  });
  /** What opening a set does. */
  const open = async (scales: Readonly<Record<string, number>>, signal = new AbortController().signal) => {
    story.length = 0;
    const loras = Object.entries(scales).map(([name, scale]) => ({ name, scale }));
    const models = await sets.open(loras, signal);
    return { models, story: [...story] };
  };
  return { sets, base, open, story, feeds };
}

describe("sets of LoRAs", () => {
  it("set opens what it changes once, whatever the scales and their order, and the two last sets stay open", async () => {
    const { open } = makeSets();
    const storyOf = async (scales: Readonly<Record<string, number>>) => (await open(scales)).story;
    assert.deepEqual(await storyOf({ text: 1 }), ["open text_encoder"]);
    assert.deepEqual(await storyOf({ text: -2 }), []);
    assert.deepEqual(await storyOf({ text: 1, unet: 1 }), ["open text_encoder", "open unet"]);
    assert.deepEqual(await storyOf({ unet: 0.5, text: 1 }), []);
    assert.deepEqual(await storyOf({ text: 1, both: 0 }), []);
    assert.deepEqual(await storyOf({ unet: 1 }), ["release text_encoder", "release unet", "open unet"]);
    assert.deepEqual(await storyOf({ text: 1 }), []);
  });

  it("set is closed before the next one opens if the memory limit has no room for both", async () => {
    const asked: number[] = [];
    const { open } = makeSets(undefined, (bytes) => {
      asked.push(bytes);
      return bytes < 2000;
    });
    await open({ text: 1 });
    assert.deepEqual((await open({ unet: 1 })).story, ["open unet"]);
    assert.deepEqual((await open({ text: 1, unet: 1 })).story.slice(0, 2), ["release text_encoder", "release unet"]);
    assert.deepEqual(asked, [1000, 2000]);
  });

  it("scale 0 and no LoRA use the model's own sessions", async () => {
    const { open, base } = makeSets();
    for (const scales of [{}, { both: 0, text: -0 }]) {
      const { models, story } = await open(scales);
      assert.deepEqual([models.unet === base.unet, models.textEncoders, models.textKey], [true, base.textEncoders, ""]);
      assert.deepEqual(story, []);
    }
  });

  it("runs get the scales in the order of the names, and prompts are known by the LoRAs of the text encoders", async () => {
    const { open, feeds, base } = makeSets();
    const { models } = await open({ unet: 0.25, text: -1.5 });
    await models.unet.run({ sample: { data: [1], shape: [1] } }, []);
    const scalar = (value: number) => ({ data: [value], shape: [1] });
    assert.deepEqual(feeds, [
      { sample: { data: [1], shape: [1] }, "lora_scale.0": scalar(-1.5), "lora_scale.1": scalar(0.25) },
    ]);
    assert.equal(models.textEncoders[1], base.textEncoders[1]);
    const keyOf = async (scales: Readonly<Record<string, number>>) => (await open(scales)).models.textKey;
    assert.equal(await keyOf({ unet: 1 }), "");
    assert.equal(models.textKey, await keyOf({ text: -1.5 }));
    assert.notEqual(models.textKey, await keyOf({ text: -1 }));
  });

  it("abort while a set opens ends the call and releases what was opened, and the next call works", async () => {
    let controller = new AbortController();
    const { open, story } = makeSets(() => controller.abort(new Error("enough")));
    await assert.rejects(open({ both: 1 }, controller.signal), /^Error: enough$/);
    assert.deepEqual(story, ["open text_encoder", "release text_encoder"]);
    controller = new AbortController();
    assert.deepEqual((await open({ both: 1 })).story, ["open text_encoder", "open unet"]);
  });

  it("set that cannot be opened is a failed generation with a message for callers, and its sessions are released", async () => {
    let opened = 0;
    const { open, story } = makeSets(() => {
      if (++opened === 2) {
        throw new Error("bad allocation in /srv");
      }
    });
    await assert.rejects(open({ both: 1 }), (error) => {
      assert.ok(error instanceof GenerationError);
      assert.deepEqual([error.kind, error.message], ["failed", "the LoRAs could not be opened"]);
      return true;
    });
    assert.deepEqual(story, ["open text_encoder", "open unet", "release text_encoder"]);
  });

  it("release releases the sessions of all sets, and not the model's own", async () => {
    const { sets, open, story } = makeSets();
    await open({ text: 1 });
    await open({ unet: 1 });
    story.length = 0;
    await sets.release();
    assert.deepEqual(story.toSorted(), ["release text_encoder", "release unet"]);
  });

  it("file of a LoRA that was replaced is not opened, and the message for callers has no path", async () => {
    const home = await temporaryFolder();
    const modelFolder = await makeSafetensorsFolder(join(home, "model"), { type: "F16", fewWords: true });
    const file = await makeLoraFile(join(home, "text.safetensors"), "wide", { only: /^text_encoder_2/ });
    const engine = await loadSdxlEngine({ modelFolder, loras: [{ name: "text", file, scale: 1 }] });
    after(() => engine.release());
    const request = { prompt: "a", seed: 1, steps: 1, guidanceScale: 1, width: 32, height: 32 };
    await makeLoraFile(file, "wide", { only: /^text_encoder_2/, type: "F16" });
    await assert.rejects(generateOnce(engine, { ...request, loras: [{ name: "text" }] }), (error) => {
      assert.ok(error instanceof GenerationError && error.cause instanceof LoraError);
      assert.deepEqual([error.kind, /replaced while the worker runs/.test(error.message)], ["failed", true]);
      assert.ok(!error.message.includes(home));
      assert.match(error.cause.message, /text\.safetensors\): the file was replaced since the worker read it/);
      return true;
    });
    assert.equal((await generateOnce(engine, request)).pixels.width, 32);
  });
});
