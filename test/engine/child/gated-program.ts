/**
 * The engine's process with a record of its UNet runs: each adds a line with the time it began to `unet-runs` in the model's
 * folder. The run whose number stands in `gate` there waits until the host has sent a cancel.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isHostMessage } from "../../../src/engine/child/messages.js";
import { createProcessChannel } from "../../../src/engine/child/process-channel.js";
import { serveEngine } from "../../../src/engine/child/serve-engine.js";
import { loadSdxlEngine } from "../../../src/engine/sdxl-engine.js";
import { countingSessions } from "../counting-sessions.js";

const cancelled = new Promise<void>((resolve) => {
  process.on("message", (message) => {
    if (isHostMessage(message) && message.kind === "cancel") {
      resolve();
    }
  });
});

serveEngine({
  channel: createProcessChannel(),
  load({ modelFolder }) {
    const gateFile = join(modelFolder, "gate");
    const gate = existsSync(gateFile) ? Number(readFileSync(gateFile, "utf8")) : undefined;
    let runs = 0;
    const openSession = countingSessions(async (subModel) => {
      if (subModel === "unet") {
        appendFileSync(join(modelFolder, "unet-runs"), `${Date.now()}\n`);
        runs++;
        if (runs === gate) {
          await cancelled;
        }
      }
    });
    return loadSdxlEngine({ modelFolder, openSession });
  },
  onClosed: () => process.exit(0),
});
