import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as until } from "node:timers/promises";
import { pino } from "pino";
import { createTlsChannelCredentials } from "../../src/mesh/tls/tls-channel.js";
import { reloadTlsMaterial } from "../../src/mesh/tls/tls-material.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { createWorkerApp, workerName } from "../../src/worker/worker-app.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";
import type { FaultTable } from "./support/fault-table.js";
import { startPipeline } from "./support/start-pipeline.js";

const fault = "a worker's certificate expires";

/** Time that the certificate still holds when it is made, in seconds; X.509 knows no parts of one. */
const holdsForS = 6;

/** The worker's certificate expires while a pipeline is connected, and before another one is; then it is renewed. */
export async function certificateExpires(table: FaultTable): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "throughline-faults-"));
  const ends: (() => Promise<unknown> | unknown)[] = [() => rm(folder, { recursive: true, force: true })];
  try {
    const authority = await createAuthority();
    const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
    const expiresAt = Date.now() + holdsForS * 1000;
    const server = await writeCertificate(folder, "worker", await authority.issue({ untilHours: holdsForS / 3600 }));
    const reload = { onRejected: () => {}, intervalMs: 50 };
    const material = reloadTlsMaterial(server, reload);
    const trusted = reloadTlsMaterial({ ca }, reload);
    ends.push(
      () => material.close(),
      () => trusted.close(),
    );

    const logger = pino({ level: "silent" });
    const telemetry = createTelemetry({ serviceName: workerName, environment: {}, log: logger });
    const worker = await createWorkerApp({ startEngine: async () => createFakeEngine(), telemetry, logger }).serve({
      port: 0,
      tls: { material },
    });
    ends.push(() => worker.stop({ graceMs: 0 }));
    const connect = async () => {
      const pipeline = await startPipeline({
        workers: [{ host: "localhost", port: worker.port }],
        workerSecurity: { credentials: createTlsChannelCredentials(trusted) },
      });
      ends.unshift(pipeline.stop);
      return pipeline;
    };

    const early = await connect();
    assert.equal((await early.generate()).code, "OK");
    // The fault is that time goes by.
    await until(expiresAt + 1_500 - Date.now());

    const connected = await early.generate();
    assert.equal(connected.code, "OK", connected.words);
    table.addCall(fault, "on a connection that is open", connected);

    const late = await connect();
    const rejected = await late.generate();
    assert.equal(rejected.code, "UNAVAILABLE");
    assert.equal(rejected.words, "no replica of local/text-to-image-worker is reachable: 1 is down");
    assert.deepEqual(rejected.attempts, []);
    table.addCall(fault, "on a new connection", rejected);

    const renewedAt = performance.now();
    await writeCertificate(folder, "worker", await authority.issue());
    let back = await late.generate();
    while (back.code === "UNAVAILABLE" && performance.now() < renewedAt + 60_000) {
      back = await late.generate();
    }
    assert.equal(back.code, "OK", back.words);
    table.addCall(fault, "the first that succeeds when its file is renewed", back, { since: renewedAt });
  } finally {
    for (const end of ends) {
      await end();
    }
  }
}
