import { join } from "node:path";
import { after } from "node:test";
import { pino } from "pino";
import type { App, RunningApp, ServeOptions } from "../../src/app/create-app.js";
import { createCallerKeyInterceptor, reloadCallerKey } from "../../src/mesh/access/caller-key-interceptor.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { reloadCallersFile } from "../../src/mesh/access/callers-file.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createTlsChannelCredentials } from "../../src/mesh/tls/tls-channel.js";
import { reloadTlsMaterial } from "../../src/mesh/tls/tls-material.js";
import { createPipelineApp } from "../../src/pipeline/pipeline-app.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createSpanCollector } from "../../src/trace/telemetry/collectors.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { createWorkerApp, type ManagedEngine } from "../../src/worker/worker-app.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "./certificates.js";

/** App id of the worker. */
export const securedApp = "acme/worker";

/** What of a {@link startSecureMesh} may differ. */
export interface SecureMeshOptions {
  readonly engine?: ManagedEngine;
  /** More options for serving the pipeline. */
  readonly serve?: Partial<ServeOptions>;
}

/**
 * Both services as an operator would run them: TLS everywhere, the worker takes only who has a certificate of the authority, the pipeline
 * shows it one and takes callers with keys: `studio` may use the worker, `guest` another app only, `slow` one request a minute. Ends with
 * the test file.
 */
export async function startSecureMesh(options: SecureMeshOptions = {}) {
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
  const issue = async (name: string) => writeCertificate(folder, name, await authority.issue({ name }));
  const serverFiles = { ...(await issue("server")), ca };
  const clientFiles = { ...(await issue("pipeline")), ca };
  const keys = { studio: createCallerKey(), guest: createCallerKey(), slow: createCallerKey() };
  const callersFile = await replaceFile(
    join(folder, "callers.yaml"),
    JSON.stringify({
      callers: [
        {
          name: "studio",
          keys: [hashCallerKey(keys.studio)],
          certificates: ["cn:studio"],
          apps: [securedApp],
        },
        { name: "guest", keys: [hashCallerKey(keys.guest)], apps: ["acme/other"] },
        { name: "slow", keys: [hashCallerKey(keys.slow)], apps: ["*"], requestsPerMinute: 1, maxConcurrent: 1 },
      ],
    }),
  );
  const lines: string[] = [];
  const logger = pino({ level: "trace" }, { write: (line) => void lines.push(line) });
  const collector = createSpanCollector();
  const watched: { close(): void }[] = [];
  const watch = <Value extends { close(): void }>(value: Value): Value => {
    watched.push(value);
    return value;
  };
  const reload = {
    onRejected: (error: unknown) => logger.error({ reason: String(error) }, "rejected"),
    intervalMs: 20,
  };
  const material = watch(reloadTlsMaterial(serverFiles, reload));
  const telemetryOf = (serviceName: string) =>
    createTelemetry({ serviceName, environment: {}, log: logger, exporters: [collector.exporter] });
  const running: RunningApp[] = [];
  const serve = async (app: App, serveOptions: Partial<ServeOptions>) => {
    const served = await app.serve({ port: 0, ...serveOptions });
    running.unshift(served);
    return served;
  };

  const worker = await serve(
    createWorkerApp({
      startEngine: async () => options.engine ?? createFakeEngine(),
      telemetry: telemetryOf("text-to-image-worker"),
      logger,
    }),
    { tls: { material, clientCertificate: "required" }, appId: securedApp },
  );
  const workerKey = await replaceFile(join(folder, "worker.key.txt"), `${keys.studio}\n`);
  const pipeline = await serve(
    createPipelineApp({
      directory: createAppDirectory({
        apps: { [securedApp]: { target: `localhost:${worker.port}` }, "acme/other": { target: "localhost:1" } },
        defaultApp: securedApp,
      }),
      workerSecurity: {
        credentials: createTlsChannelCredentials(watch(reloadTlsMaterial(clientFiles, reload))),
        interceptors: [createCallerKeyInterceptor(watch(reloadCallerKey(workerKey, reload)))],
      },
      telemetry: telemetryOf("image-pipeline"),
      logger,
    }),
    {
      tls: { material, clientCertificate: "optional" },
      callers: watch(reloadCallersFile(callersFile, reload)),
      ...options.serve,
    },
  );
  after(async () => {
    for (const app of running) {
      await app.stop({ graceMs: 0 });
    }
    for (const each of watched) {
      each.close();
    }
  });
  return { folder, authority, ca: authority.cert, caFile: ca, keys, worker, pipeline, collector, issue, lines };
}
