import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { createChoice } from "../../../src/mesh/balance/replica-choice.js";
import { createReplicaLoad, type LoadCall } from "../../../src/mesh/balance/replica-load.js";
import { createRandom } from "../support/random.js";

/**
 * Workers with queues and pipelines that choose among them, on a clock of their own. Each client calls again as soon as it is served, so
 * that the number of calls stays the same.
 */
function simulate(
  speeds: readonly number[],
  pipelines: number,
  clients: number,
  policy: "least_wait" | "round_robin",
  seed = 7,
) {
  const unitMs = 800;
  const clock = { ms: 0 };
  const random = createRandom(seed);
  const workers = speeds.map((speed) => ({
    serviceMs: unitMs / speed,
    queue: [] as { call: LoadCall; pipeline: number }[],
    doneAt: Number.POSITIVE_INFINITY,
    busyMs: 0,
  }));
  const views = Array.from({ length: pipelines }, () => ({
    choose: createChoice(policy, () => random.below(1_000) / 1_000),
    workers: workers.map((worker) => ({ worker, load: createReplicaLoad(() => clock.ms), rejectsForMs: 0 })),
  }));
  let unfairMs = 0;
  let served = 0;

  const start = (worker: (typeof workers)[number]): void => {
    worker.doneAt = worker.queue.length === 0 ? Number.POSITIVE_INFINITY : clock.ms + worker.serviceMs;
  };
  const call = (pipeline: number): void => {
    const view = views[pipeline];
    const chosen = view?.choose(view.workers);
    assert.ok(chosen);
    const { queue } = chosen.worker;
    const entry = { call: chosen.load.begin(), pipeline };
    queue.push(entry);
    if (queue.length === 1) {
      start(chosen.worker);
    } else {
      entry.call.report({ ahead: queue.length - 1 });
    }
  };
  const run = (untilMs: number): void => {
    while (clock.ms < untilMs) {
      const next = workers.reduce((soonest, worker) => (worker.doneAt < soonest.doneAt ? worker : soonest));
      const passed = next.doneAt - clock.ms;
      const idle = workers.some(({ queue }) => queue.length === 0);
      // One is generated, two wait.
      unfairMs += idle && workers.some(({ queue }) => queue.length > 2) ? passed : 0;
      for (const worker of workers) {
        worker.busyMs += worker.queue.length > 0 ? passed : 0;
      }
      clock.ms = next.doneAt;
      const done = next.queue.shift();
      assert.ok(done);
      done.call.report({ serviceMs: next.serviceMs });
      done.call.end(true);
      served++;
      start(next);
      call(done.pipeline);
    }
  };

  for (let i = 0; i < clients; i++) {
    call(random.below(pipelines));
  }
  const rounds = Array.from({ length: 5 }, (_, round) => {
    const before = served;
    const from = clock.ms;
    run((round + 1) * 20 * unitMs);
    const possible = speeds.reduce((sum, speed) => sum + speed, 0) * ((clock.ms - from) / unitMs);
    return (served - before) / possible;
  });
  return { rounds, unfairMs };
}

const unequal = [1, 1, 2, 4];

suite("least_wait balancing", () => {
  for (const clients of [8, 12, 16, 24, 48]) {
    test(`least_wait keeps two pipelines with ${clients} clients at the unequal workers' full throughput, and no worker idle beside a queue`, () => {
      const { rounds, unfairMs } = simulate(unequal, 2, clients, "least_wait");
      for (const share of rounds) {
        assert.ok(
          share >= 0.9,
          `${share.toFixed(3)} of what the workers can do: ${rounds.map((each) => each.toFixed(2))}`,
        );
      }
      assert.equal(unfairMs, 0);
    });
  }

  test("round_robin does not reach that throughput", () => {
    const { rounds, unfairMs } = simulate(unequal, 2, 12, "round_robin");
    assert.ok(Math.min(...rounds) < 0.8);
    assert.ok(unfairMs > 0);
  });

  test("least_wait prefers the fastest idle worker and rotates among equals", () => {
    const choose = createChoice("least_wait");
    const workers = [300, 100, 100].map((serviceMs) => {
      const load = createReplicaLoad();
      const call = load.begin();
      call.report({ serviceMs });
      call.end(true);
      return { serviceMs, load, rejectsForMs: 0 };
    });
    const chosen = Array.from({ length: 4 }, () => choose(workers));
    assert.deepEqual(
      chosen.map((worker) => worker?.serviceMs),
      [100, 100, 100, 100],
    );
    assert.equal(new Set(chosen).size, 2);
  });

  test("least_wait counts a rejection as a wait, and tries a rejecting worker when no other is better", () => {
    const busy = createReplicaLoad();
    const call = busy.begin();
    call.report({ serviceMs: 500 });
    call.end(true);
    busy.begin();
    const [idle, queue] = [
      { load: createReplicaLoad(), rejectsForMs: 10_000 },
      { load: busy, rejectsForMs: 0 },
    ];
    assert.equal(createChoice("least_wait")([idle, queue]), queue);
    assert.equal(createChoice("least_wait")([{ ...idle, rejectsForMs: 10 }, queue])?.rejectsForMs, 10);
    for (const policy of ["least_wait", "round_robin", "pick_first"] as const) {
      assert.equal(createChoice(policy)([idle]), idle);
    }
    for (const policy of ["round_robin", "pick_first"] as const) {
      assert.equal(createChoice(policy)([idle, queue]), queue);
    }
  });

  test("every policy chooses a replica whatever values are known of them", () => {
    const odd = (ms: number) => ({
      load: { ...createReplicaLoad(), serviceMs: ms, expectedWaitMs: () => ms },
      rejectsForMs: ms,
    });
    for (const policy of ["least_wait", "round_robin", "pick_first"] as const) {
      const [lost, endless] = [odd(Number.NaN), odd(Number.POSITIVE_INFINITY)];
      assert.ok(createChoice(policy)([lost, endless]));
      assert.ok(createChoice(policy)([lost]));
    }
  });

  test("every policy chooses nothing when there is no replica", () => {
    for (const policy of ["least_wait", "round_robin", "pick_first"] as const) {
      assert.equal(createChoice(policy)([]), undefined);
    }
  });
});
