import assert from "node:assert/strict";
import { type FaultTable, seconds } from "./support/fault-table.js";
import type { Seen } from "./support/seen.js";
import { type Pipeline, startPipeline } from "./support/start-pipeline.js";
import type { WorkerProcess } from "./support/worker-process.js";

/** Side of an image that weighs about 260 kB on the wire, as noise. */
const side = 256;

/** All links carry a megabit a second. */
export async function slowLink(workers: readonly WorkerProcess[], table: FaultTable): Promise<void> {
  await withPipeline(workers, async (pipeline) => {
    const before = await pipeline.generate({ side });
    await Promise.all(workers.map(({ link }) => link.slow(1_000)));
    const slow = await pipeline.generate({ side });
    for (const seen of [before, slow]) {
      assert.equal(seen.code, "OK", seen.words);
      assert.equal(seen.attempts.length, 1);
    }
    assert.ok(slow.tookMs > before.tookMs, "the link was not slow");
    const fault = "slow link: 1 Mbit/s";
    table.addCall(fault, "an image of 260 kB", slow);
  });
}

/** Every link loses one packet in twenty, in both directions. */
export async function lossyLink(workers: readonly WorkerProcess[], table: FaultTable): Promise<void> {
  await withPipeline(workers, async (pipeline) => {
    await pipeline.generate();
    await Promise.all(workers.map(({ link }) => link.lose(0.05)));
    const calls = 24;
    const seen: Seen[] = [];
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        for (let i = 0; i < calls / 4; i++) {
          seen.push(await pipeline.generate({ side }));
        }
      }),
    );
    for (const { code, words, attempts } of seen) {
      assert.equal(code, "OK", words);
      assert.equal(attempts.length, 1);
    }
    const slowest = seen.reduce((a, b) => (a.tookMs > b.tookMs ? a : b));
    table.addCall("5 % of the packets lost", `the slowest of ${calls}, four at once`, slowest);
  });
}

/** The pipeline is cut off from all of its workers. */
export async function partition(workers: readonly WorkerProcess[], table: FaultTable): Promise<void> {
  const fault = "partition: no worker can be reached";
  await withPipeline(workers, async (pipeline) => {
    await pipeline.generate();
    const [first] = workers;
    assert.ok(first);
    first.hold(true);
    const holding = first.holding();
    const running = pipeline.generate();
    await holding;
    const struckAt = performance.now();
    await Promise.all(workers.map(({ link }) => link.cut()));
    const lost = await running;
    assert.equal(lost.code, "UNAVAILABLE");
    assert.ok(lost.endedAt - struckAt < 20_000, `it took ${seconds(lost.endedAt - struckAt)}`);
    table.addCall(fault, "had no event yet", lost, { since: struckAt });

    const rejected = await pipeline.generate();
    assert.equal(rejected.code, "UNAVAILABLE");
    assert.equal(rejected.words, `no replica of local/text-to-image-worker is reachable: ${workers.length} are down`);
    assert.deepEqual(rejected.attempts, []);
    table.addCall(fault, "new", rejected);

    first.hold(false);
    await Promise.all(workers.map(({ link }) => link.heal()));
    const healedAt = performance.now();
    let back = await pipeline.generate();
    while (back.code === "UNAVAILABLE" && performance.now() < healedAt + 60_000) {
      back = await pipeline.generate();
    }
    assert.equal(back.code, "OK", back.words);
    table.addCall(fault, "the first that succeeds afterwards", back, { since: healedAt });
  });
}

async function withPipeline(workers: readonly WorkerProcess[], show: (pipeline: Pipeline) => Promise<void>) {
  const pipeline = await startPipeline({ workers, processes: workers });
  try {
    await show(pipeline);
  } finally {
    await pipeline.stop();
    for (const worker of workers) {
      worker.hold(false);
      await worker.link.heal();
    }
  }
}
