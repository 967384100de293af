/**
 * An engine's process without a model. It does what a prompt says before it generates: `block 2000` blocks its thread for so many
 * milliseconds, as a run of a sub-model does; `hang` blocks it for ever; `grow 100` takes so many MiB more and keeps them,
 * and `grow 100 hang` hangs then.
 */
import { createProcessChannel, serveEngine } from "../../../src/engine/child/serve-engine.js";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";

const kept: Buffer[] = [];
const neverNotified = new Int32Array(new SharedArrayBuffer(4));

const fake = createFakeEngine({
  beforeStep(step, { prompt }) {
    const words = step === 2 ? prompt.split(" ") : [];
    const amount = Number(words[1]);
    if (words.includes("block")) {
      Atomics.wait(neverNotified, 0, 0, amount);
    }
    if (words.includes("grow")) {
      kept.push(Buffer.alloc(amount * 2 ** 20, 1));
    }
    if (words.includes("hang")) {
      Atomics.wait(neverNotified, 0, 0);
    }
  },
});

const notes = { family: "SDXL", precision: "none", assumptions: [] };
const graphs = { text_encoder: "", text_encoder_2: "", unet: "", vae_decoder: "" };
serveEngine({
  channel: createProcessChannel(),
  load: async () => ({
    engine: { ...fake, graphs, notes, async warmUp() {}, async release() {} },
    loadMs: 1,
    warmUpMs: 1,
  }),
  onClosed: () => process.exit(0),
});
