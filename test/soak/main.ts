import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { suite, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Figure, median, quantile, writeReport } from "../../bench/support/figures.js";
import { whyNoPostgres } from "../support/postgres.js";
import { checkJobs, classify } from "./checks.js";
import { startFaults } from "./faults.js";
import { startLoad } from "./load.js";
import { type Measure, measures } from "./resources.js";
import { startSystem, workerCount } from "./system.js";

/*
 * npm run test:soak -- [--minutes N] [--rate N] [--write]
 *
 * Two pipelines and four workers under calls and jobs, while workers are killed, drained and added, the database restarts, and the collector
 * goes away and comes back. Everything is on loopback and ends with this process.
 */
const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    rate: { type: "string", default: "30" },
    write: { type: "boolean", default: false },
  },
});
const [minutes, wantedRate] = [Number(values.minutes), Number(values.rate)];
assert.ok(
  minutes >= 3 && minutes <= 24 * 60,
  "--minutes must be a number from 3 to 1440: shorter runs have too few samples for a slope",
);
assert.ok(wantedRate > 0 && wantedRate <= 1_000, "--rate must be a number of requests per second, up to 1000");

/** Milliseconds of each of an image's four steps. */
const stepMs = 10;
/** Share of all cores that may be busy, by whatever runs on the machine; above it, the rate is lowered, */
const mostShare = 0.7;
/** but not below this part of it: what else runs may end. */
const leastPart = 1 / 3;
/** Time in which the load is measured, before the faults, in milliseconds. */
const measureMs = 30_000;
/** Share of the run after which memory is judged: before, caches fill and code is compiled. A run of few minutes has nothing after that. */
const warmUpShare = 0.4;
const leastJudgedMinutes = 8;
/** Most growth in a minute: MiB of memory, number of open files, of the smallest values of each half minute: a leak raises those too. */
const bounds: Readonly<Record<Measure, number>> = { resident: 3, live: 0.5, files: 0.5 };
/** Time for the jobs that still wait at the end, in milliseconds. */
const settleMs = 120_000;
const runMs = minutes * 60_000;
/** Every fault comes four times in ten minutes, and each at least once in a short run. */
const faultPauseMs = Math.min(15_000, runMs / 40);

const print = (text: string) => process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
const percent = (share: number) => `${Math.round(100 * share)} %`;

suite("soak", { skip: whyNoPostgres }, () => {
  test(`${minutes} minutes`, { timeout: runMs + 600_000 }, async (t) => {
    const figures: Figure[] = [];
    const add = (name: string, value: number, unit: string, more: Partial<Figure> = {}) => {
      figures.push({ name, value, unit, ...more });
      print(`${name}: ${Number(value.toPrecision(4))} ${unit} ${more.note ?? ""}`);
    };
    const system = await startSystem(t, stepMs);
    const { resources } = system;
    // What the system takes without a request, which a rate must not be charged for.
    await delay(measureMs / 2);
    resources.processorTime();
    await delay(measureMs);
    const idle = resources.processorTime();
    const leastRate = wantedRate * leastPart;
    const load = startLoad(system, leastRate);
    t.after(load.stop);
    // The first seconds compile code.
    await delay(measureMs / 2);
    resources.processorTime();
    const [sentBefore, databaseBefore] = [load.sent, await system.databaseWork()];
    await delay(measureMs);
    const measured = resources.processorTime();
    const [sent, databaseAfter] = [load.sent - sentBefore, await system.databaseWork()];
    const { own, machine } = measured;
    const fitting = (leastRate * Math.max(0, mostShare - (machine - own))) / own;
    const rate = Math.min(wantedRate, Math.max(leastRate, fitting));
    load.setRate(rate);
    const begunAt = Date.now();
    print(
      `${leastRate.toFixed(1)} requests/s take ${percent(own)} of ${availableParallelism()} cores, and all else ${percent(machine - own)}: ${rate.toFixed(1)}/s from here`,
    );

    const faults = startFaults(system, faultPauseMs, (text) => print(`fault: ${text}; ${load.running} under way`));
    await delay(runMs);
    await faults.stop();
    const time = resources.processorTime();
    const loadSeconds = (Date.now() - begunAt) / 1000;
    await load.stop();
    const settleUntil = Date.now() + settleMs;
    const unfinished = async () =>
      Number((await system.query("select count(*) from throughline.job where state in (1, 2)"))[0]);
    while ((await unfinished()) > 0 && Date.now() < settleUntil) {
      await delay(500);
    }

    const { seen } = load;
    const jobs = await checkJobs(system, seen);
    const failures = seen.failed.map((failure) => ({ ...failure, reason: classify(failure, faults.kills) }));
    const unexpected = failures.filter(({ reason }) => reason === "unexpected");
    add("requests per second", rate, "/s", {
      note: `a quarter unary calls, a quarter streams, half jobs; for ${Math.round(loadSeconds)} s`,
    });
    add("cores taken by the system and its clients", 100 * time.own, "%", {
      note: `of ${availableParallelism()}; busy with whatever else runs: ${percent(time.machine)}`,
    });
    for (const [kind, taken] of measured.seconds) {
      const idleSeconds = idle.seconds.get(kind) ?? 0;
      add(`processor time of a request: ${kind}`, (1000 * (taken - idleSeconds)) / sent, "ms", {
        note: `before the faults, ${sent} requests; without requests ${((100_000 * idleSeconds) / measureMs).toFixed(1)} % of a core`,
      });
    }
    const ofJob = (key: keyof typeof databaseAfter) => (databaseAfter[key] - databaseBefore[key]) / (sent / 2);
    add("transactions of the database for a job", ofJob("transactions"), "", {
      note: "polls of both pipelines included",
    });
    add("write-ahead log of a job", ofJob("logBytes") / 1024, "KiB", { note: "images of changed pages included" });
    for (const [kind, count] of faults.counts) {
      add(`faults: ${kind}`, count, "");
    }
    add("calls", seen.calls, "", {
      note: `p50 ${median(seen.latencies).toFixed(0)} ms, p99 ${quantile(seen.latencies, 0.99).toFixed(0)} ms`,
    });
    add("failed calls", failures.length, "", { goal: "those in mid-stream on a killed worker" });
    add("failed calls, unexpected", unexpected.length, "", { goal: "0" });
    add("acknowledged jobs", seen.jobs.size, "", { note: `${jobs.repeated} took more than one attempt` });
    add("lost acknowledged jobs", jobs.lost.length, "", { goal: "0" });
    add("duplicates", jobs.duplicates.length, "", { goal: "0", note: "rows of one request id; images of one job" });
    add("jobs generated to the end more than once", jobs.generatedAgain.length, "", {
      note: "their worker was killed between the image and its answer, or the claim ended; one result is stored",
    });
    add(
      "CreateJob repeated by its client",
      [...seen.repeated.values()].reduce((sum, count) => sum + count, 0),
      "",
      {
        note: "UNAVAILABLE while the database restarts",
      },
    );
    add("watches begun again", seen.rewatched, "");
    const steadySince = Date.now() - (1 - warmUpShare) * (Date.now() - begunAt);
    const growth = system.steady.flatMap((name) => {
      const fits = resources.fit(name, steadySince);
      return measures.map((measure) => ({ name, measure, fit: fits[measure] }));
    });
    const labels: Readonly<Record<Measure, string>> = {
      resident: "MiB resident",
      live: "MiB live after a collection",
      files: "open files",
    };
    for (const { name, measure, fit } of growth) {
      add(`${name}, ${labels[measure]}: slope`, fit.perMinute, "a minute", {
        goal: `≤ ${bounds[measure]}`,
        note: `± ${fit.error.toFixed(2)}, mean ${fit.mean.toFixed(1)}, from ${fit.first.toFixed(1)} to ${fit.last.toFixed(1)}`,
      });
    }
    for (const line of summarize(system.pipelines.map(({ command }) => command.stderr).join("\n"))) {
      print(`log: ${line}`);
    }
    for (const failure of unexpected) {
      print(`unexpected: ${JSON.stringify(failure)}`);
    }
    for (const text of [...jobs.lost, ...jobs.duplicates, ...jobs.generatedAgain, ...seen.unacknowledged].slice(
      0,
      50,
    )) {
      print(text);
    }
    if (values.write) {
      await writeReport("soak", {
        title: `${minutes} minutes under load and faults, ${workerCount} workers, 2 pipelines`,
        figures,
      });
    }

    await t.test("no acknowledged job is lost", () => assert.deepEqual(jobs.lost, []));
    await t.test("every job was acknowledged in the end, and every request was sent", () => {
      assert.deepEqual(seen.unacknowledged, []);
      assert.equal(seen.skipped, 0);
    });
    await t.test("no job has two rows or two images", () => assert.deepEqual(jobs.duplicates, []));
    await t.test("engine generates a job's image again only after a fault", () =>
      assert.ok(jobs.generatedAgain.length <= faults.kills.length + (faults.counts.get("database") ?? 0)),
    );
    await t.test("watched jobs succeeded", () => assert.deepEqual([...seen.watched.keys()], ["SUCCEEDED"]));
    await t.test("calls fail in mid-stream on a killed worker only", () => assert.deepEqual(unexpected, []));
    await t.test("each fault was there", () => assert.equal(faults.counts.size, 5));
    const tooShort = minutes < leastJudgedMinutes && `memory is judged from ${leastJudgedMinutes} minutes on`;
    await t.test("memory and open files are flat", { skip: tooShort }, () => {
      const grown = growth.filter(({ measure, fit }) => fit.perMinute - fit.error > bounds[measure]);
      assert.deepEqual(
        grown.map(({ name, measure, fit }) => `${name}: ${measure} ${fit.perMinute.toFixed(2)}`),
        [],
      );
    });
    await t.test("pipelines end in order", () => system.stopPipelines());
  });
});

/** Log lines by message, with their number. */
function summarize(log: string): string[] {
  const counts = new Map<string, number>();
  for (const line of log.split("\n")) {
    const [, message] = /"msg":"((?:[^"\\]|\\.)*)"/.exec(line) ?? [];
    if (message !== undefined) {
      counts.set(message, (counts.get(message) ?? 0) + 1);
    }
  }
  return [...counts].map(([message, count]) => `${count} × ${message}`);
}
