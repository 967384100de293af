// Preloaded into the processes of the soak: writes what lives on the heap after a collection, every few seconds, into a file of the process.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const folder = process.env["SOAK_PROBES"];
if (folder !== undefined) {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  setInterval(() => {
    collect();
    const { heapUsed, external } = process.memoryUsage();
    const line = { at: Date.now(), bytes: heapUsed + external };
    try {
      appendFileSync(join(folder, `${process.pid}.jsonl`), `${JSON.stringify(line)}\n`);
    } catch {
      // The soak has removed the folder.
    }
  }, 5_000).unref();
}
