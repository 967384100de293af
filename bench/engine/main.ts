import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startEngineProcess } from "../../src/engine/child/engine-process.js";
import { type Figure, median, writeReport } from "../support/figures.js";
import { measureBatches } from "./batches.js";
import { measureOverhead } from "./overhead.js";
import { compareSideBySide, type SideBySide } from "./side-by-side.js";

/*
 * npm run bench:engine -- [--python PROGRAM] [--rounds N]
 *
 * With a Python that has what training/requirements.txt names, diffusers generates side by side.
 */

const { values } = parseArgs({ options: { python: { type: "string" }, rounds: { type: "string", default: "7" } } });
const rounds = Number(values.rounds);
const modelFolder = fileURLToPath(new URL("../../models/emoji-xl", import.meta.url));
const threads = availableParallelism();

/** The engine's process: how fast it is there, what it needs, and how long it waits between two images. */
async function measureProcess(): Promise<{ figures: Figure[]; compared: SideBySide | undefined }> {
  const started = performance.now();
  const engine = await startEngineProcess({ modelFolder, threads });
  const readyMs = performance.now() - started;
  const gaps: number[] = [];
  let lastEnd: number | undefined;
  for (let i = 0; i < 20; i++) {
    const { signal } = new AbortController();
    await engine.generate(
      { prompt: "a red heart", seed: i, steps: 1 },
      {
        signal,
        onEvent(event) {
          if (event.kind === "stage" && event.stage === "text-encoding" && lastEnd !== undefined) {
            gaps.push(performance.now() - lastEnd);
          }
        },
      },
    );
    lastEnd = performance.now();
  }
  const compared =
    values.python === undefined
      ? undefined
      : await compareSideBySide(engine, { python: values.python, model: modelFolder, threads, rounds });
  const status = await readFile(`/proc/${engine.pid}/status`, "utf8").catch(() => "");
  const peakBytes = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024;
  const modelBytes = engine.notes.weights?.bytes ?? Number.NaN;
  await engine.stop({ graceMs: 5000 });
  const figures: Figure[] = [
    {
      name: "start of the engine process until ready",
      value: readyMs,
      unit: "ms",
      note: "from source, model warmed up",
    },
    { name: "peak memory of the engine process", value: peakBytes / 2 ** 20, unit: "MiB" },
    {
      name: "peak memory / size of the model's weights",
      value: peakBytes / modelBytes,
      unit: "",
      note: "the files hold float16",
    },
    {
      name: "pause between two images, from process to process",
      value: median(gaps),
      unit: "ms",
      note: "added to the wait of a queued request",
    },
  ];
  return { figures, compared };
}

const overhead = await measureOverhead(modelFolder, rounds);
const batches = await measureBatches(modelFolder, rounds);
const { figures, compared } = await measureProcess();
await writeReport("engine", {
  title: "The engine",
  ...(compared && { versions: compared.versions }),
  figures: [...overhead, ...figures, ...batches, ...(compared?.figures ?? [])],
});
