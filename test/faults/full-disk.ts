import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createDirectoryStore } from "../../src/image/directory-store.js";
import type { FaultTable } from "./support/fault-table.js";
import { runHere } from "./support/run-here.js";
import { startPipeline } from "./support/start-pipeline.js";
import type { WorkerProcess } from "./support/worker-process.js";

/** The file system of the pipeline's images is full. */
export async function fullDisk(workers: readonly WorkerProcess[], table: FaultTable): Promise<void> {
  const fault = "the image disk is full";
  const directory = await mkdtemp(join(tmpdir(), "throughline-faults-"));
  await runHere("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", directory);
  const lines: string[] = [];
  const pipeline = await startPipeline({
    workers,
    processes: workers,
    store: await createDirectoryStore({ directory }),
    onLog: (line) => lines.push(line),
  });
  try {
    assert.equal((await pipeline.generate({ side: 256 })).code, "OK");
    const ballast = join(directory, "ballast");
    await assert.rejects(writeFile(ballast, new Uint8Array(512 * 1024)), { code: "ENOSPC" });
    const before = await readdir(directory);

    const full = await pipeline.generate({ side: 256 });
    assert.equal(full.code, "UNAVAILABLE");
    assert.equal(full.words, "the image cannot be stored: the image store is full");
    assert.deepEqual(
      full.attempts.map(({ code }) => code),
      ["OK"],
    );
    assert.ok(
      lines.some((line) => line.includes("ENOSPC")),
      "the log does not tell why",
    );
    assert.deepEqual(await readdir(directory), before);
    table.addCall(fault, "an image by URL", full, { trace: "the log has the cause; no half-written file is left" });

    await rm(ballast);
    const back = await pipeline.generate({ side: 256 });
    assert.equal(back.code, "OK", back.words);
    table.addCall(fault, "the next, with free space", back);
  } finally {
    await pipeline.stop();
    await runHere("umount", directory);
    await rmdir(directory);
  }
}
