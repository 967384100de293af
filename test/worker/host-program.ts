/** Hosts an engine on the given folder and starts an endless image. Sends "generation" when it runs. */
import { pino } from "pino";
import { createEngineHost } from "../../src/worker/engine-host.js";
import { testProgram } from "../support/test-program.js";

const [, , modelFolder = ""] = process.argv;
const program = testProgram("./lifeline-program", import.meta.url);
const host = await createEngineHost({ modelFolder, program, logger: pino({ level: "silent" }) });
await host.generate(
  { prompt: "a cat", seed: 1, steps: 1000 },
  {
    signal: new AbortController().signal,
    onEvent(event) {
      if (event.kind === "step" && event.step === 1) {
        process.send?.("generation");
      }
    },
  },
);
