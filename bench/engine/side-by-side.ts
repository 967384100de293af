import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import type { EngineProcess } from "../../src/engine/child/engine-process.js";
import type { GenerationRequest } from "../../src/engine/engine.js";
import { type Figure, median } from "../support/figures.js";

const answer = z.object({ ms: z.number() });
const greeting = z.object({ versions: z.record(z.string(), z.string()) });

interface Worker {
  readonly versions: Readonly<Record<string, string>>;
  generate(request: Required<Pick<GenerationRequest, "prompt" | "seed">> & Sizes): Promise<number>;
  stop(): void;
}

interface Sizes {
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidanceScale: number;
}

/** One Python process that generates what it is told: see bench/python/worker.py. */
async function startPython(python: string, model: string, threads: number): Promise<Worker> {
  const script = fileURLToPath(new URL("../python/worker.py", import.meta.url));
  const flags = ["--model", model, "--threads", String(threads)];
  const child = spawn(python, [script, ...flags], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done === true) {
      throw new Error("PyTorch ended");
    }
    return JSON.parse(value);
  };
  const { versions } = greeting.parse(await next());
  return {
    versions,
    async generate({ prompt, seed, width, height, steps, guidanceScale }) {
      const request = { prompt, seed, width, height, num_inference_steps: steps, guidance_scale: guidanceScale };
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return answer.parse(await next()).ms;
    },
    stop: () => child.kill(),
  };
}

export interface SideBySide {
  readonly figures: readonly Figure[];
  readonly versions: Readonly<Record<string, string>>;
}

/**
 * The same requests, turn by turn, by this engine in its process and by diffusers on PyTorch, on the same files; who begins changes. Ratios
 * are those of the turns, so that a machine that slows down slows both.
 */
export async function compareSideBySide(
  engine: EngineProcess,
  options: { readonly python: string; readonly model: string; readonly threads: number; readonly rounds: number },
): Promise<SideBySide> {
  const { python, model, threads, rounds } = options;
  const torch = await startPython(python, model, threads);
  const own = async (request: Parameters<Worker["generate"]>[0]): Promise<number> => {
    const started = performance.now();
    await engine.generate(request, { signal: new AbortController().signal });
    return performance.now() - started;
  };
  const turn = async (i: number) => {
    // A prompt of its own each turn: neither has it in a cache.
    const request = { prompt: `a red heart ${i}`, seed: i, width: 128, height: 128, steps: 20, guidanceScale: 4 };
    const first = i % 2 === 0 ? await own(request) : await torch.generate(request);
    const second = i % 2 === 0 ? await torch.generate(request) : await own(request);
    return i % 2 === 0 ? { ours: first, theirs: second } : { ours: second, theirs: first };
  };
  await turn(0);
  const times: number[] = [];
  const ratios: number[] = [];
  for (let i = 1; i <= rounds; i++) {
    const { ours, theirs } = await turn(i);
    times.push(ours);
    ratios.push(theirs / ours);
  }
  torch.stop();
  const spread = (values: readonly number[], digits: number): string =>
    `${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}`;
  const note = `median of ${rounds} turns of 20 steps, 128×128, guidance 4, ${threads} threads each`;
  return {
    versions: torch.versions,
    figures: [
      { name: "time per image, this engine", value: median(times), unit: "ms", note: `${note}; ${spread(times, 0)}` },
      {
        name: "diffusers on PyTorch, relative to this engine",
        value: median(ratios),
        unit: "",
        goal: "≥ 1",
        note: `${note}; ${spread(ratios, 2)}`,
      },
    ],
  };
}
