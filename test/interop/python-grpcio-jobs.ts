import { fileURLToPath } from "node:url";
import * as z from "zod";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { startJobMesh } from "../support/job-mesh.js";
import type { Part } from "./support/part.js";
import { prepareGrpcPython } from "./support/python.js";
import { runProgram } from "./support/run-program.js";

const script = fileURLToPath(new URL("python/job_cases.py", import.meta.url));
const caseResult = z.object({ name: z.string(), passed: z.boolean(), detail: z.string() });

/** Python's grpcio against the jobs of a pipeline. */
export const pythonGrpcioJobs: Part = {
  name: "Python grpcio, our jobs",
  async run() {
    const { python, generated } = await prepareGrpcPython();
    const engine = createFakeEngine({
      async beforeStep(_, { prompt }, signal) {
        if (prompt.startsWith("hold")) {
          await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
          signal.throwIfAborted();
        }
      },
    });
    const mesh = await startJobMesh({ engines: [engine] });
    try {
      const { stdout, tail } = await runProgram(python, [script, new URL(mesh.url).host], {
        timeoutMs: 120_000,
        env: { PYTHONPATH: generated, PYTHONDONTWRITEBYTECODE: "1" },
      });
      const lines = stdout.toString().split("\n").filter(Boolean);
      const cases = lines.map((line) => caseResult.parse(JSON.parse(line)));
      if (cases.length === 0) {
        throw new Error(`job_cases.py reported no cases:\n${tail}`);
      }
      return { cases };
    } finally {
      await mesh.stop();
    }
  },
};
