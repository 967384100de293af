import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import * as z from "zod";
import {
  type EngineProcess,
  type EngineProcessOptions,
  startEngineProcess,
} from "../../engine/child/engine-process.js";
import type { LoraChoice, Pixels } from "../../engine/engine.js";
import { messageOf } from "../errors.js";
import { describeBytes, type Finding, fine, warning, wrong } from "./doctor-findings.js";
import { availableMemory } from "./doctor-machine.js";

const closeGraceMs = 10_000;

export interface ModelCheck {
  readonly findings: readonly Finding[];
  /** Nodes that ran on each execution provider; absent when nothing ran. */
  readonly nodes?: Readonly<Record<string, number>>;
  readonly generated: boolean;
}

/**
 * Loads the model as a worker does, in a process of its own, and generates one small image. Which provider ran which node is read from
 * onnxruntime's own profile of that.
 */
export async function checkInference(
  options: Pick<EngineProcessOptions, "modelFolder" | "loras" | "device" | "precision" | "threads" | "signal">,
): Promise<ModelCheck> {
  const findings: Finding[] = [];
  const profileFolder = await mkdtemp(join(tmpdir(), "throughline-profile-"));
  try {
    const engine = await startEngineProcess({
      ...options,
      profileFolder,
      // `auto` goes on to the next device: nothing is wrong with a machine without a GPU.
      onDeviceFailure: ({ device, reason, remedy }) =>
        findings.push(fine(device, `not available: ${reason}; to use it: ${remedy}`)),
    });
    try {
      findings.push(fine("device", describeStart(engine)), await describeModel(options.modelFolder, engine));
      findings.push(...describeChoices(engine.notes));
      const started = performance.now();
      const pixels = await generateSmall(engine, options.signal);
      const seconds = ((performance.now() - started) / 1000).toFixed(2);
      findings.push(fine("image", `${pixels.width}×${pixels.height} in 2 steps, generated in ${seconds} s`));
      findings.push(...(await checkLoras(engine, options.signal)));
      findings.push(fine("engine memory", `${describeBytes(engine.memoryBytes)} after it, mapped weights included`));
    } finally {
      // The profiles are complete when the process has closed.
      await engine.stop({ graceMs: closeGraceMs });
    }
    const nodes = await countNodes(profileFolder);
    const list = [...nodes].map(([provider, count]) => `${provider}: ${count} nodes`);
    findings.push(fine("nodes", list.join(", ")));
    return { findings, nodes: Object.fromEntries(nodes), generated: true };
  } catch (error) {
    options.signal?.throwIfAborted();
    const found = messageOf(error);
    const remedy =
      "images cannot be generated until this is put right; --model names another folder, --device another device";
    return { findings: [...findings, wrong("image", found, remedy)], generated: false };
  } finally {
    await rm(profileFolder, { recursive: true, force: true });
  }
}

/** LoRAs of one request, by the contract. */
const mostLoras = 8;

/** Generates one more image, with as many LoRAs as a request can have. */
async function checkLoras(engine: EngineProcess, signal: AbortSignal | undefined): Promise<Finding[]> {
  const { loras = [] } = engine.notes;
  if (loras.length === 0) {
    return [];
  }
  const taken = loras.slice(0, mostLoras).map(({ name }) => ({ name }));
  const started = performance.now();
  await generateSmall(engine, signal, taken);
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  return [
    ...loras.map(({ name, scale, layers, subModels, bytes }) =>
      fine(
        "LoRA",
        `${name}: ${layers} layers of ${subModels.join(", ")}, ${describeBytes(bytes)}, scale ${scale} by default`,
      ),
    ),
    fine("image", `with ${taken.map(({ name }) => name).join(", ")}: opened and generated in ${seconds} s`),
  ];
}

async function generateSmall(
  engine: EngineProcess,
  signal: AbortSignal | undefined,
  loras: readonly LoraChoice[] = [],
): Promise<Pixels> {
  const { width, height } = engine.info.limits.sizes;
  const request = { prompt: "a red heart", seed: 7, steps: 2, width: width.minimum, height: height.minimum, loras };
  const { pixels } = await engine.generate(request, { signal: signal ?? new AbortController().signal });
  return pixels;
}

function describeStart({ info, startUp }: EngineProcess): string {
  const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`;
  return `${info.executionProvider}: loaded in ${seconds(startUp.loadMs)}, first run ${seconds(startUp.warmUpMs)}`;
}

async function describeModel(folder: string, { info, graphs, notes }: EngineProcess): Promise<Finding> {
  const { sizes, ownScheduler, schedulers, defaultGuidanceScale } = info.limits;
  const { family, weights } = notes;
  const bytes = weights?.bytes ?? (await exportedBytes(folder, graphs));
  const half = Object.values(graphs).filter((file) => file.endsWith("_fp16.onnx")).length;
  const files =
    weights === undefined
      ? `${Object.values(graphs).length} graphs${half > 0 ? `, ${half} of them model_fp16.onnx` : ""}`
      : `${Math.round(weights.parameters / 1e6).toLocaleString("en-US")} M parameters`;
  const steps = schedulers[ownScheduler]?.defaultSteps;
  const defaults = `${sizes.width.default}×${sizes.height.default} in ${steps} steps at guidance ${defaultGuidanceScale} by default (${ownScheduler})`;
  const found = `${info.model}: ${family}, ${files}, ${describeBytes(bytes)}; ${defaults}`;
  return bytes > availableMemory()
    ? warning("model", found, "the weights are larger than the free memory, and are read from the disk again and again")
    : fine("model", found);
}

/** What the engine decided by itself. */
function describeChoices({ precision, defaults, assumptions }: EngineProcess["notes"]): Finding[] {
  return [
    fine("precision", precision),
    ...(defaults === undefined ? [] : [fine("defaults", defaults)]),
    ...assumptions.map((assumption) => fine("assumed", assumption)),
  ];
}

async function exportedBytes(folder: string, graphs: EngineProcess["graphs"]): Promise<number> {
  const sizes = await Promise.all(Object.values(graphs).map((file) => graphBytes(join(folder, file))));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Size of a graph with the weights beside it. */
async function graphBytes(file: string): Promise<number> {
  const names = (await readdir(dirname(file))).filter((name) => name.startsWith(basename(file)));
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(dirname(file), name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** What onnxruntime writes of each kernel that it ran; other events have no provider. */
const profileEvents = z.array(
  z.object({
    name: z.string(),
    args: z.object({ provider: z.string().optional(), node_index: z.string().optional() }).optional(),
  }),
);

/**
 * Counts the nodes that ran on each execution provider, over all profiles of a folder, the most first. A node that ran several times
 * counts once.
 */
export async function countNodes(profileFolder: string): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const file of await readdir(profileFolder)) {
    const nodes = new Map<string, string>();
    for (const { name, args } of profileEvents.parse(JSON.parse(await readFile(join(profileFolder, file), "utf8")))) {
      if (args?.provider !== undefined && name.endsWith("_kernel_time")) {
        nodes.set(`${args.node_index} ${name}`, args.provider);
      }
    }
    for (const provider of nodes.values()) {
      counts.set(provider, (counts.get(provider) ?? 0) + 1);
    }
  }
  return new Map([...counts].sort(([, a], [, b]) => b - a));
}
