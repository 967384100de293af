import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { prepareGraphs } from "../../src/engine/build-graphs.js";
import { readModel } from "../../src/engine/model-folder.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";

/*
 * One process that runs the UNet of a model: `--model PATH --precision float32|float16 --size PIXELS`. It prints a line of JSON when it is
 * open, and one for each line that it reads: milliseconds by the clock and of the processors, and what memory is its own and mapped.
 */

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "" },
    precision: { type: "string", default: "auto" },
    size: { type: "string", default: "512" },
    batch: { type: "string", default: "1" },
    threads: { type: "string", default: String(availableParallelism()) },
    profile: { type: "string" },
  },
});
const precision = values.precision === "float32" || values.precision === "float16" ? values.precision : "auto";

async function memory(): Promise<{ ownMb: number; mappedMb: number; peakMb: number }> {
  const status = await readFile("/proc/self/status", "utf8");
  const of = (key: string): number => Math.round(Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status)?.[1]) / 1e3);
  return { ownMb: of("RssAnon"), mappedMb: of("RssFile"), peakMb: of("VmHWM") };
}

async function timed<Result>(run: () => Promise<Result>): Promise<{ ms: number; cpuMs: number; result: Result }> {
  const [started, used] = [performance.now(), process.cpuUsage()];
  const result = await run();
  const { user, system } = process.cpuUsage(used);
  return { ms: Math.round(performance.now() - started), cpuMs: Math.round((user + system) / 1000), result };
}

const print = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

const opened = await timed(async () => {
  const model = await readModel(values.model);
  const { graphs } = await prepareGraphs(model, { precision, provider: "cpu" });
  const threads = Number(values.threads);
  const open = createSessionOpener({ threads, ...(values.profile && { profileFolder: values.profile }) });
  return { model, unet: await open(graphs.unet) };
});
const { model, unet } = opened.result;
print({ openMs: opened.ms, openCpuMs: opened.cpuMs, ...(await memory()) });

const batch = Number(values.batch);
const side = Number(values.size) / 8;
const tensor = (...shape: number[]) => ({
  data: Float32Array.from({ length: shape.reduce((all, length) => all * length) }, (_, i) => Math.sin(i * 1.7)),
  shape,
});
const [first, second] = model.textEncoders;
const width = first.hidden_size + second.hidden_size;
const feeds = {
  sample: tensor(batch, model.unet.in_channels, side, side),
  timestep: { data: [501], shape: [1] },
  encoder_hidden_states: tensor(batch, 77, width),
  text_embeds: tensor(batch, second.projection_dim ?? second.hidden_size),
  time_ids: tensor(batch, 6),
};
for await (const _ of createInterface({ input: process.stdin })) {
  const { ms, cpuMs, result } = await timed(() => unet.run(feeds, ["out_sample"]));
  const sum = result("out_sample").data.reduce((all, value) => all + Math.abs(value), 0);
  print({ ms, cpuMs, sum, ...(await memory()) });
}
await unet.release();
