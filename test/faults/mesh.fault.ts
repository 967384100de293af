import { after, before, test } from "node:test";
import { certificateExpires } from "./certificate.js";
import { clockSkew } from "./clock-skew.js";
import { collectorGone } from "./collector-gone.js";
import { fullDisk } from "./full-disk.js";
import { loseWorker } from "./lost-worker.js";
import { lossyLink, partition, slowLink } from "./network.js";
import { quietDemo } from "./quiet-demo.js";
import { createFaultTable, writeTable } from "./support/fault-table.js";
import { runHere } from "./support/run-here.js";
import { startWorkerProcess, type WorkerProcess } from "./support/worker-process.js";

/** Pings every 10 s, 5 s for an answer, and 5 s more for a busy machine. */
const keepaliveMs = 20_000;

const table = createFaultTable();
const workers: WorkerProcess[] = [];
let failures = 0;

const fault = (name: string, show: () => Promise<void>) =>
  test(name, { timeout: 180_000 }, async () => {
    failures++;
    await show();
    failures--;
  });

before(async () => {
  await runHere("ip", "link", "set", "lo", "up");
  workers.push(...(await Promise.all([0, 1, 2].map((index) => startWorkerProcess(index)))));
});

fault("a worker is paused", () =>
  loseWorker(
    {
      fault: "a worker is paused (SIGSTOP)",
      strike: (worker) => worker.kill("SIGSTOP"),
      heal: (worker) => worker.kill("SIGCONT"),
      noticedWithinMs: keepaliveMs,
      isSilent: true,
    },
    workers,
    table,
  ),
);

fault("a worker's link drops all packets", () =>
  loseWorker(
    {
      fault: "a worker is black-holed",
      strike: ({ link }) => link.lose(1),
      heal: ({ link }) => link.heal(),
      noticedWithinMs: keepaliveMs,
      isSilent: true,
    },
    workers,
    table,
  ),
);

fault("links are slow", () => slowLink(workers, table));
fault("links lose packets", () => lossyLink(workers, table));
fault("the pipeline is cut off from all workers", () => partition(workers, table));

fault("a worker is killed", () =>
  loseWorker(
    {
      fault: "a worker is killed (SIGKILL)",
      strike: (worker) => worker.kill("SIGKILL"),
      noticedWithinMs: 5_000,
      isSilent: false,
    },
    workers,
    table,
  ),
);

fault("a worker's certificate expires", () => certificateExpires(table));
fault("a worker's clock is an hour ahead", () => clockSkew(3, table));
fault("the image disk is full", () => fullDisk(workers.slice(1), table));
fault("the collector is gone", () => collectorGone(workers.slice(1), table));
fault("nothing is wrong, and a demo looks up no name", quietDemo);

after(async () => {
  for (const worker of workers) {
    worker.end();
  }
  process.stdout.write(`${table.render()}\n`);
  if (failures === 0) {
    await writeTable(new URL("../../docs/fault-injection.md", import.meta.url), table.render());
  }
});
