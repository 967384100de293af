import assert from "node:assert/strict";
import type { FaultTable } from "./support/fault-table.js";
import { seconds } from "./support/fault-table.js";
import type { Seen } from "./support/seen.js";
import { startPipeline } from "./support/start-pipeline.js";
import type { WorkerProcess } from "./support/worker-process.js";

/** A way to lose a worker. */
export interface Loss {
  readonly fault: string;
  strike(worker: WorkerProcess): Promise<void> | void;
  /** Absent: it does not come back. */
  readonly heal?: (worker: WorkerProcess) => Promise<void> | void;
  /** Within what time it has to be noticed, in milliseconds. */
  readonly noticedWithinMs: number;
  /** Whether calls may be made on it that end before it is noticed. */
  readonly isSilent: boolean;
}

/** A deadline that passes before a silent loss is noticed. */
const deadlineMs = 4_000;

/** Loses the first of several workers while it has two calls, one of them a stream that has sent an event. */
export async function loseWorker(loss: Loss, workers: readonly WorkerProcess[], table: FaultTable): Promise<void> {
  const [victim] = workers;
  assert.ok(victim);
  const pipeline = await startPipeline({ workers, processes: workers });
  try {
    await pipeline.generate();
    victim.hold(true);
    const holding = victim.holding();
    const waiting = pipeline.generate();
    await holding;
    let stream: Promise<Seen> | undefined;
    await new Promise<void>((resolve) => {
      stream = pipeline.generate({ onFirstEvent: resolve });
    });
    assert.ok(stream);

    const struckAt = performance.now();
    await loss.strike(victim);
    const late = loss.isSilent ? await pipeline.generate({ timeoutMs: deadlineMs }) : undefined;
    const [retried, broken] = await Promise.all([waiting, stream]);
    const next = await pipeline.generate();

    assert.equal(retried.code, "OK");
    assert.deepEqual(
      retried.attempts.map(({ code }) => code),
      ["UNAVAILABLE", "OK"],
    );
    assert.notEqual(retried.attempts[1]?.host, victim.host);
    table.addCall(loss.fault, "had no event yet", retried, { since: struckAt });

    assert.equal(broken.code, "UNAVAILABLE");
    assert.match(broken.words, /^(the connection to the server was lost|the server cannot be reached)$/);
    assert.equal(broken.attempts.length, 1);
    table.addCall(loss.fault, "a stream with events", broken, { since: struckAt });
    for (const { endedAt } of [retried, broken]) {
      assert.ok(endedAt - struckAt < loss.noticedWithinMs, `it took ${seconds(endedAt - struckAt)}`);
    }

    if (late !== undefined) {
      assert.equal(late.code, "DEADLINE_EXCEEDED");
      // On a busy machine the client's own timer may be first.
      assert.match(late.words, /^(deadline exceeded: waiting for the worker's response|the operation timed out)$/);
      assert.equal(late.attempts.length, 1);
      table.addCall(loss.fault, `new, with a deadline of ${deadlineMs / 1000} s`, late);
    }

    assert.equal(next.code, "OK");
    assert.equal(next.attempts.length, 1);
    assert.notEqual(next.attempts[0]?.host, victim.host);
    table.addCall(loss.fault, "new, once the loss is known", next);

    if (loss.heal !== undefined) {
      await loss.heal(victim);
      const healedAt = performance.now();
      victim.hold(false);
      const back = await untilGeneratedBy(victim, pipeline.generate);
      table.addCall(loss.fault, "the first on it when it is back", back, { since: healedAt });
    }
  } finally {
    await loss.heal?.(victim);
    if (loss.heal !== undefined) {
      victim.hold(false);
    }
    await pipeline.stop();
  }
}

/** Generates until a worker has generated. All on the way have to succeed as well. */
export async function untilGeneratedBy({ host }: WorkerProcess, generate: () => Promise<Seen>): Promise<Seen> {
  for (const end = performance.now() + 60_000; ; ) {
    const seen = await generate();
    assert.equal(seen.code, "OK", seen.words);
    if (seen.attempts.at(-1)?.host === host) {
      return seen;
    }
    assert.ok(performance.now() < end, "the worker gets nothing although it is back");
  }
}
