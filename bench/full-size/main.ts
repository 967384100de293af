import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as z from "zod";
import { median } from "../support/figures.js";

/*
 * npm run bench -- full-size --model FOLDER --python PROGRAM [--size 512] [--precision float32|float16] [--dtype float32|bfloat16]
 *                            [--threads N] [--rounds N]
 *
 * The UNet of a full-size folder (training/make_full_size.py), here and on PyTorch, turn by turn; who begins a round changes. Processor
 * time is given beside the clock's, because a machine with other work spoils the latter. PyTorch's threads wait in a loop: on a machine
 * with other work, compare processor time with --threads 1.
 */

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "" },
    python: { type: "string", default: "python3" },
    size: { type: "string", default: "512" },
    precision: { type: "string", default: "float16" },
    dtype: { type: "string", default: "float32" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "3" },
  },
});
const { model, size, threads } = values;

const opened = z.object({ openMs: z.number(), ownMb: z.number(), mappedMb: z.number(), peakMb: z.number() });
const ran = z.object({
  ms: z.number(),
  cpuMs: z.number(),
  ownMb: z.number(),
  mappedMb: z.number(),
  peakMb: z.number(),
});
type Run = z.output<typeof ran>;

interface Runner {
  readonly name: string;
  readonly child: ChildProcess;
  readonly runs: Run[];
  run(): Promise<void>;
}

async function start(name: string, program: string, args: readonly string[]): Promise<Runner> {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "ignore"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done === true) {
      throw new Error(`${name} ended`);
    }
    return JSON.parse(value);
  };
  print(name, opened.parse(await next()));
  const runs: Run[] = [];
  return {
    name,
    child,
    runs,
    async run() {
      child.stdin.write("run\n");
      const result = ran.parse(await next());
      runs.push(result);
      print(name, result);
    },
  };
}

function print(name: string, value: object): void {
  process.stdout.write(`${name}: ${JSON.stringify(value)}\n`);
}

const file = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const shared = ["--model", model, "--size", size, "--threads", threads];
const torch = await start(`torch ${values.dtype}`, values.python, [
  file("../python/unet.py"),
  ...shared,
  "--dtype",
  values.dtype,
]);
const own = await start(`throughline ${values.precision}`, process.execPath, [
  "--import",
  "tsx",
  file("./unet-runner.ts"),
  ...shared,
  "--precision",
  values.precision,
]);
const ratios: { clock: number; processor: number }[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  for (const runner of round % 2 === 0 ? [own, torch] : [torch, own]) {
    await runner.run();
  }
  const [ours, theirs] = [own.runs.at(-1), torch.runs.at(-1)];
  if (ours !== undefined && theirs !== undefined) {
    ratios.push({ clock: theirs.ms / ours.ms, processor: theirs.cpuMs / ours.cpuMs });
  }
}
for (const { child } of [torch, own]) {
  child.stdin?.end();
}
for (const kind of ["clock", "processor"] as const) {
  const all = ratios.map((ratio) => ratio[kind]).sort((a, b) => a - b);
  const spread = `${all[0]?.toFixed(2)} to ${all.at(-1)?.toFixed(2)}`;
  process.stdout.write(`torch over throughline, ${kind}: ${median(all).toFixed(2)} (${spread})\n`);
}
