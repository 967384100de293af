import { fileURLToPath } from "node:url";
import * as z from "zod";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { type CaseResult, type Part, runCase } from "./support/part.js";
import { prepareGrpcPython } from "./support/python.js";
import { runProgram } from "./support/run-program.js";

const script = fileURLToPath(new URL("python/cases.py", import.meta.url));
const caseResult = z.object({ name: z.string(), passed: z.boolean(), detail: z.string() });

/** grpcio's calls that the engine holds: two run out of time, two are cancelled. */
const heldCalls = 4;

/** Python's grpcio against a pipeline and its worker. */
export const pythonGrpcio: Part = {
  name: "Python grpcio, our pipeline",
  async run() {
    const { python, generated } = await prepareGrpcPython();
    const cancelled = createCounter();
    const engine = createFakeEngine({
      async beforeStep(_, { prompt }, signal) {
        if (prompt.startsWith("hold")) {
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
          cancelled.add(prompt);
          signal.throwIfAborted();
        }
      },
    });
    const mesh = await createTestMesh({ wire: "port", engine, trustTraceparent: true });
    try {
      const { stdout, tail } = await runProgram(python, [script, new URL(mesh.pipelineUrl).host], {
        timeoutMs: 300_000,
        env: { PYTHONPATH: generated, PYTHONDONTWRITEBYTECODE: "1" },
      });
      const lines = stdout.toString().split("\n").filter(Boolean);
      const cases: CaseResult[] = lines.map((line) => caseResult.parse(JSON.parse(line)));
      if (cases.length === 0) {
        throw new Error(`cases.py reported no cases:\n${tail}`);
      }
      cases.push(await runCase("held_calls_end_in_the_engine", () => cancelled.reaches(heldCalls)));
      return { cases };
    } finally {
      await mesh.stop();
    }
  },
};

/** Counts prompts, and resolves when there are enough. */
function createCounter() {
  const seen = new Set<string>();
  let check = (): void => {};
  return {
    add(prompt: string) {
      seen.add(prompt);
      check();
    },
    reaches: (count: number) =>
      new Promise<void>((resolve) => {
        check = () => {
          if (seen.size >= count) {
            resolve();
          }
        };
        check();
      }),
  };
}
