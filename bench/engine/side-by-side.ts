import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { EngineProcess } from "../../src/engine/child/engine-process.js";
import type { PaintRequest } from "../../src/engine/engine.js";
import { type Figure, median } from "../support/figures.js";

const answer = z.object({ ms: z.number() });
const greeting = z.object({ versions: z.record(z.string(), z.string()) });

interface Painter {
  readonly versions: Readonly<Record<string, string>>;
  paint(request: Required<Pick<PaintRequest, "prompt" | "seed">> & Sizes): Promise<number>;
  stop(): void;
}

interface Sizes {
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidanceScale: number;
}

/** One Python process that paints what it is told: see bench/python/painter.py. */
async function startPython(
  python: string,
  engine: string,
  model: string,
  threads: number,
  more: readonly string[] = [],
): Promise<Painter> {
  const script = fileURLToPath(new URL("../python/painter.py", import.meta.url));
  const flags = ["--engine", engine, "--model", model, "--threads", String(threads), ...more];
  const child = spawn(python, [script, ...flags], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done === true) {
      throw new Error(`${engine} ended`);
    }
    return JSON.parse(value);
  };
  const { versions } = greeting.parse(await next());
  return {
    versions,
    async paint({ prompt, seed, width, height, steps, guidanceScale }) {
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
 * The same requests, turn by turn, by this engine in its process and by diffusers in Python: on PyTorch, and on onnxruntime with the same
 * files. Ratios are those of the turns, so that a machine that slows down slows all.
 */
export async function compareSideBySide(
  engine: EngineProcess,
  options: { readonly python: string; readonly model: string; readonly threads: number; readonly rounds: number },
): Promise<SideBySide> {
  const { python, model, threads, rounds } = options;
  const others = {
    "diffusers on PyTorch": await startPython(python, "torch", model, threads),
    "diffusers' scheduler on onnxruntime in Python, threads that sleep as here": await startPython(
      python,
      "onnxruntime",
      model,
      threads,
    ),
    "diffusers' scheduler on onnxruntime in Python, its own spinning threads": await startPython(
      python,
      "onnxruntime",
      model,
      threads,
      ["--spinning"],
    ),
  };
  const own = { ms: [] as number[] };
  const ratios = new Map(Object.keys(others).map((name) => [name, [] as number[]]));
  const turn = async (i: number) => {
    // A prompt of its own each turn: none of them has it in a cache.
    const request = { prompt: `a red heart ${i}`, seed: i, width: 128, height: 128, steps: 20, guidanceScale: 4 };
    const started = performance.now();
    await engine.generate(request, { signal: new AbortController().signal });
    const ours = performance.now() - started;
    const theirs = new Map<string, number>();
    for (const [name, painter] of Object.entries(others)) {
      theirs.set(name, await painter.paint(request));
    }
    return { ours, theirs };
  };
  await turn(0);
  for (let i = 1; i <= rounds; i++) {
    const { ours, theirs } = await turn(i);
    own.ms.push(ours);
    for (const [name, ms] of theirs) {
      ratios.get(name)?.push(ms / ours);
    }
  }
  const versions = Object.assign({}, ...Object.values(others).map((painter) => painter.versions));
  for (const painter of Object.values(others)) {
    painter.stop();
  }
  const note = `median of ${rounds} turns of 20 steps, 128×128, guidance 4, ${threads} threads each`;
  return {
    versions,
    figures: [
      { name: "a picture, this engine", value: median(own.ms), unit: "ms", note },
      ...[...ratios].map(([name, values]) => ({
        name: `${name}, over this engine`,
        value: median(values),
        unit: "",
        goal: "≥ 1",
        note,
      })),
    ],
  };
}
