import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import { createFairQueue, type FairItem, type FairQueue } from "../../src/worker/fair-queue.js";
import { createPositionReports } from "../../src/worker/position-reports.js";
import { createRandom } from "../mesh/support/random.js";

interface Item extends FairItem {
  readonly name: string;
}

function item(caller: string, cost = 1, name = caller): Item {
  return { caller, name, cost: () => cost };
}

/** Runs the next one for what it costs. */
function runNext(queue: FairQueue<Item>): Item | undefined {
  const next = queue.shift();
  if (next !== undefined) {
    queue.charge(next.cost());
  }
  return next;
}

const names = (items: readonly Item[]) => items.map(({ name }) => name).join(" ");

describe("fair queue", () => {
  it("fair queue keeps the order of arrival for one caller", () => {
    const queue = createFairQueue<Item>();
    for (const name of ["1", "2", "3"]) {
      queue.push(item("a", 1, name));
    }
    assert.equal(names(queue.order()), "1 2 3");
    assert.deepEqual([runNext(queue)?.name, runNext(queue)?.name, queue.size], ["1", "2", 1]);
  });

  it("fair queue gives a new caller the next turn, however many requests wait", () => {
    const queue = createFairQueue<Item>();
    for (let i = 0; i < 16; i++) {
      queue.push(item("greedy"));
    }
    queue.shift();
    queue.push(item("modest"));
    assert.equal(names(queue.order().slice(0, 3)), "modest greedy greedy");
  });

  it("fair queue shares by cost: four cheap requests for one expensive request", () => {
    const queue = createFairQueue<Item>();
    for (let i = 0; i < 8; i++) {
      queue.push(item("cheap", 1));
      queue.push(item("dear", 4));
    }
    assert.equal(names(queue.order().slice(0, 10)), "cheap dear cheap cheap cheap dear cheap cheap cheap cheap");
  });

  it("fair queue charges the actual cost, not the expected one", () => {
    const queue = createFairQueue<Item>();
    for (let i = 0; i < 3; i++) {
      queue.push(item("slower than it said"));
      queue.push(item("as it said"));
    }
    queue.shift();
    queue.charge(10);
    assert.deepEqual(
      [1, 2, 3].map(() => runNext(queue)?.caller),
      ["as it said", "as it said", "as it said"],
    );
  });

  it("fair queue accumulates no share for an absent caller", () => {
    const queue = createFairQueue<Item>();
    for (let i = 0; i < 50; i++) {
      queue.push(item("busy"));
    }
    for (let i = 0; i < 20; i++) {
      runNext(queue);
    }
    for (let i = 0; i < 3; i++) {
      queue.push(item("back"));
    }
    assert.equal(names(queue.order().slice(0, 6)), "busy back busy back busy back");
  });

  it("fair queue resets all shares when it is empty", () => {
    const queue = createFairQueue<Item>();
    queue.push(item("early", 100));
    runNext(queue);
    queue.push(item("early"));
    queue.push(item("late"));
    assert.equal(names(queue.order()), "early late");
  });

  it("fair queue evicts the newest request of the caller with the most, and among equals of the one that came last", () => {
    const queue = createFairQueue<Item>();
    for (const [caller, name] of [
      ["a", "a1"],
      ["a", "a2"],
      ["b", "b1"],
      ["a", "a3"],
      ["b", "b2"],
    ] as const) {
      queue.push(item(caller, 1, name));
    }
    assert.equal(queue.newestOfLongest()?.name, "a3");
    queue.remove(queue.newestOfLongest() ?? assert.fail());
    assert.equal(queue.newestOfLongest()?.name, "b2");
  });

  it("fair queue gives a steady caller at least one turn in nine, however many new callers arrive", () => {
    const queue = createFairQueue<Item>();
    const waitingOf = (wanted: string) => queue.order().filter(({ caller }) => caller === wanted).length;
    const enter = (caller: string) => {
      queue.push(item(caller));
      const surplus = queue.size > 16 ? queue.newestOfLongest() : undefined;
      if (surplus !== undefined) {
        queue.remove(surplus);
        assert.ok(
          surplus.caller === caller || waitingOf(surplus.caller) > 0,
          "nobody's only place is given to another",
        );
      }
    };
    let turns = 0;
    for (let generation = 0; generation < 900; generation++) {
      for (const caller of ["steady", `a${generation}`, `b${generation}`]) {
        enter(caller);
      }
      const predicted = queue.order()[0];
      const next = runNext(queue);
      assert.equal(next, predicted);
      turns += next?.caller === "steady" ? 1 : 0;
    }
    assert.ok(turns >= 99, `${turns} of 900`);
  });

  it("fair queue keeps its guarantees in random histories", () => {
    const { below } = createRandom(20_260_401);
    for (let history = 0; history < 100; history++) {
      const queue = createFairQueue<Item>();
      const callers = ["a", "b", "c", "d"].slice(0, 2 + below(3));
      const mostCost = 20;
      // Those who have had something waiting all the time so far, and what each has had since all of them had.
      const had = new Map(callers.map((caller) => [caller, 0]));
      for (const caller of callers) {
        for (let i = 0; i < 20; i++) {
          queue.push(item(caller, 1 + below(mostCost)));
        }
      }
      for (let turn = 0; turn < 20; turn++) {
        const predicted = queue.order()[0];
        const next = runNext(queue);
        assert.equal(next, predicted);
        had.set(next?.caller ?? "", (had.get(next?.caller ?? "") ?? 0) + (next?.cost() ?? 0));
        if (below(4) === 0) {
          const waiting = queue.order();
          const removed = waiting[below(waiting.length)] ?? assert.fail();
          queue.remove(removed);
          queue.push(item(removed.caller, 1 + below(mostCost)));
        }
        // Goyal, Vin and Cheng, theorem 1: the shares of two callers who both wait differ by one item of each at most.
        const shares = [...had.values()];
        assert.ok(Math.max(...shares) - Math.min(...shares) <= 2 * mostCost, `history ${history}: ${shares}`);
      }
      // A newcomer with one item waits for one item of each other caller at most.
      queue.shift();
      const newcomer = item("new", 1 + below(mostCost));
      queue.push(newcomer);
      const before = queue.order().indexOf(newcomer);
      assert.ok(before < callers.length, `history ${history}: ${before} before the newcomer`);
    }
  });
});

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Joins so many waiters and, when each has its first report, counts the further ones. */
async function waitersOf(count: number) {
  let made = 0;
  const reports = createPositionReports<number>(() => made++);
  for (let waiter = 0; waiter < count; waiter++) {
    reports.add(waiter);
  }
  await turns();
  assert.equal(made, count);
  return { reports, further: () => made - count };
}

test("position changes are reported at once to a few waiting requests", async () => {
  const { reports, further } = await waitersOf(20);
  reports.changed();
  await turns();
  assert.equal(further(), 20);
});

test("position changes are delayed by 1 ms per waiting request, and cancelled requests get none", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { reports, further } = await waitersOf(100);
  reports.changed();
  await turns();
  t.mock.timers.tick(99);
  await turns();
  assert.equal(further(), 0);
  reports.remove(0);
  t.mock.timers.tick(1);
  await turns();
  assert.equal(further(), 99);
});

test("position changes that go on delay the reports of many waiting requests, at most to three times the wait", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 1_000;
  t.mock.method(performance, "now", () => now);
  const { reports, further } = await waitersOf(100);
  const pass = async (ms: number) => {
    now += ms;
    t.mock.timers.tick(ms);
    await turns();
  };
  for (let change = 0; change < 3; change++) {
    reports.changed();
    await pass(90);
    assert.equal(further(), 0);
  }
  // 270 ms after the first change. Later ones delay no more.
  reports.changed();
  await pass(100);
  assert.equal(further(), 100);
});
