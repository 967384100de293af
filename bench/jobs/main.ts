import { setMaxListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { createJobStore } from "../../src/jobs/job-store.js";
import { openFolderDatabase } from "../../src/jobs/pglite-folder.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { startJobMesh } from "../../test/support/job-mesh.js";
import { startPostgres, whyNoPostgres } from "../../test/support/postgres.js";
import { type Figure, median, quantile, writeReport } from "../support/figures.js";

/* npm run bench:jobs: what durable jobs cost on a fake engine, with PostgreSQL and with PGlite. Recovery times: npm run test:jobs. */

const pairs = 60;
/** Rounds before the measurement, until the code is compiled: a service has run for longer. */
const warmUps = 200;
const waiting = Number(process.env["BENCH_WAITING"] ?? 5_000);
const watchers = Math.min(1_000, waiting);
const lanes = 8;
const options = { delivery: Delivery.INLINE };
// The tests' support trades PGlite's speed for its start.
setFlagsFromString("--no-liftoff-only");

async function measure(name: string, source: Parameters<typeof startJobMesh>[0], folder: string): Promise<Figure[]> {
  const figures: Figure[] = [];
  const add = (what: string, value: number, unit: string, more: Partial<Figure> = {}) => {
    figures.push({ name: `${name}: ${what}`, value, unit, ...more });
    process.stderr.write(`${name}: ${what}: ${value.toPrecision(3)} ${unit} ${more.note ?? ""}\n`);
  };
  const begun: number[] = [];
  const ended: number[] = [];
  let release = () => {};
  let held: Promise<void> | undefined;
  const engine = createFakeEngine({
    async beforeStep(step) {
      if (step === 1) {
        begun.push(performance.now());
        await held;
      }
      if (step === 4) {
        ended.push(performance.now());
      }
    },
  });
  const limits = { all: 2 * waiting, perOwner: 2 * waiting };
  const mesh = await startJobMesh({ ...source, folder, engines: [engine], limits });
  const createJob = async (prompt: string) => {
    const { job } = await mesh.jobs.createJob({ work: { case: "generate", value: { prompt, options } } });
    return job?.id ?? "";
  };
  const runJob = async (prompt: string) => {
    let state: JobState | undefined;
    for await (const { job } of mesh.jobs.watchJob({ id: await createJob(prompt) })) {
      state = job?.state;
    }
    if (state !== JobState.SUCCEEDED) {
      throw new Error(`a job ended as ${state}`);
    }
  };
  const timed = async (work: () => Promise<unknown>) => {
    const start = performance.now();
    await work();
    return performance.now() - start;
  };

  try {
    for (let index = 0; index < warmUps; index++) {
      await mesh.pipeline.generate({ prompt: `warm ${index}`, options });
      await runJob(`warm ${index}`);
    }
    const calls: number[] = [];
    const jobs: number[] = [];
    const starts: number[] = [];
    for (let index = 0; index < pairs; index++) {
      calls.push(await timed(() => mesh.pipeline.generate({ prompt: `call ${index}`, options })));
      const sentAt = performance.now();
      const before = begun.length;
      jobs.push(await timed(() => runJob(`job ${index}`)));
      starts.push((begun[before] ?? Number.NaN) - sentAt);
    }
    const more = jobs.map((job, index) => job - (calls[index] ?? 0));
    const spread = (values: readonly number[]) =>
      `p10 ${quantile(values, 0.1).toFixed(1)} ms, p90 ${quantile(values, 0.9).toFixed(1)} ms, ${pairs} in alternation`;
    add("a call, p50", median(calls), "ms", { note: spread(calls) });
    add("a job, created and watched to its end, p50", median(jobs), "ms", { note: spread(jobs) });
    add("a job more than the call before it, p50", median(more), "ms", {
      note: spread(more),
      ...(name === "PostgreSQL" && { goal: "≤ 25 ms" }),
    });
    add("CreateJob to the first step, worker free, p50", median(starts), "ms", { note: spread(starts) });

    held = new Promise((resolve) => {
      release = resolve;
    });
    const ids: string[] = [];
    const submitMs = await timed(() =>
      Promise.all(
        Array.from({ length: lanes }, async () => {
          while (ids.length < waiting) {
            ids.push(await createJob("waits"));
          }
        }),
      ),
    );
    add(`jobs created per second, ${lanes} at a time`, (ids.length * 1000) / submitMs, "/s", {
      note: `${ids.length} jobs, 0 to ${waiting} waiting`,
    });

    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    const store = createJobStore(mesh.database);
    const watched = ids.slice(-watchers);
    const clients = Array.from({ length: 20 }, () =>
      createClient(JobService, createGrpcTransport({ baseUrl: mesh.url })),
    );
    const surveys: number[] = [];
    let shown = 0;
    let allShown = () => {};
    const all = new Promise<void>((resolve) => {
      allShown = resolve;
    });
    const watches = watched.map(async (id, index) => {
      let isFirst = true;
      const client = clients[index % clients.length];
      for await (const { job } of client?.watchJob({ id }, { signal: abort.signal }) ?? []) {
        if (isFirst && job?.detail.case === "queued") {
          isFirst = false;
          if (++shown === watchers) {
            allShown();
          }
        }
      }
    });
    for (const watch of watches) {
      watch.catch((error: unknown) => {
        if (!abort.signal.aborted) {
          throw error;
        }
      });
    }
    add(`${watchers} watchers until all know their position`, await timed(() => all), "ms");
    for (let index = 0; index < warmUps; index++) {
      surveys.push(await timed(() => store.survey(watched)));
    }
    add(`positions of ${watchers} jobs among ${waiting}, one query, p50`, median(surveys), "ms");

    const first = ended.length;
    held = undefined;
    release();
    while (ended.length < first + 200) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const gaps = begun.slice(-150).map((at) => at - Math.max(...ended.filter((end) => end < at)));
    add(`a worker free to its next first step, ${waiting} waiting, ${watchers} watchers, p50`, median(gaps), "ms", {
      note: `p90 ${quantile(gaps, 0.9).toFixed(1)} ms; includes encoding and storing the image before`,
    });
    abort.abort();
    await Promise.allSettled(watches);
    return figures;
  } finally {
    await mesh.stop();
  }
}

const folder = await mkdtemp(join(tmpdir(), "bench-jobs-"));
const figures: Figure[] = [];
try {
  if (whyNoPostgres === false) {
    const postgres = await startPostgres();
    try {
      const source = await postgres.createDatabase();
      figures.push(...(await measure("PostgreSQL", { source }, join(folder, "postgres"))));
    } finally {
      await postgres.remove();
    }
  } else {
    process.stderr.write(`without PostgreSQL: ${whyNoPostgres}\n`);
  }
  const source = await openFolderDatabase(join(folder, "pglite"));
  figures.push(...(await measure("PGlite", { source }, join(folder, "pglite"))));
  await writeReport("jobs", { title: "Durable jobs on a fake engine", figures });
} finally {
  await rm(folder, { recursive: true, force: true });
}
