/**
 * The engine's process with a record of its UNet runs: each adds a line to `unet-runs` in the model's
 * folder. Where a file `gate` lies there, the second UNet run of an image whose prompt is new waits until the host has sent a cancel.
 */
import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { isHostMessage } from "../../../src/engine/child/messages.js";
import { createProcessChannel, serveEngine } from "../../../src/engine/child/serve-engine.js";
import { loadOnDevice } from "../../../src/engine/load-on-device.js";
import { countingSessions } from "../counting-sessions.js";

const nextCancel = () =>
  new Promise<void>((resolve) => {
    process.on("message", function listener(message) {
      if (isHostMessage(message) && message.kind === "cancel") {
        process.off("message", listener);
        resolve();
      }
    });
  });

serveEngine({
  channel: createProcessChannel(),
  load({ modelFolder }) {
    const gated = existsSync(join(modelFolder, "gate"));
    let runs = 0;
    let cancelled = Promise.resolve();
    const openSession = countingSessions(async (subModel) => {
      if (subModel === "text_encoder") {
        runs = 0;
        cancelled = nextCancel();
      }
      if (subModel === "unet") {
        appendFileSync(join(modelFolder, "unet-runs"), "begun\n");
        runs++;
        if (gated && runs === 2) {
          await cancelled;
        }
      }
    });
    return loadOnDevice({ modelFolder, createOpener: () => openSession });
  },
  onClosed: () => process.exit(0),
});
