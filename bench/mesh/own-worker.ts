/**
 * Throughline's worker as `throughline worker` runs it, but with an engine that answers at once:
 *
 *     node own-worker.mjs ROOT [hold]
 *
 * ROOT is a checkout that is built. With `hold`, the engine holds each image at its first step until the call is cancelled.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { runApp } from "../../src/cli/run-app.js";
import type { createWorkerApp, defaultAppId, workerName } from "../../src/server/server.js";
import type { createFakeEngine } from "../../src/testing/testing.js";
import { installInstantEncoder } from "./instant-encoder.js";

interface Run {
  readonly runApp: typeof runApp;
}
interface Server {
  readonly createWorkerApp: typeof createWorkerApp;
  readonly defaultAppId: typeof defaultAppId;
  readonly workerName: typeof workerName;
}
interface Testing {
  readonly createFakeEngine: typeof createFakeEngine;
}

const [root = "", mode] = process.argv.slice(2);

const held = (_step: number, _request: unknown, signal: AbortSignal) =>
  new Promise<void>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });

/** Loads what the package in ROOT offers under this name, which may be another version than this checkout's. */
async function load<Module>(entry: "./run" | "./server" | "./testing"): Promise<Module> {
  const packageJson: { exports: Record<string, { default: string }> } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  );
  return import(pathToFileURL(join(root, packageJson.exports[entry]?.default ?? "")).href);
}

await installInstantEncoder(root);
const run = await load<Run>("./run");
const server = await load<Server>("./server");
const testing = await load<Testing>("./testing");
await run.runApp({
  name: server.workerName,
  app: server.defaultAppId,
  port: 0,
  create: ({ telemetry, logger }) =>
    server.createWorkerApp({
      startEngine: async () => testing.createFakeEngine(mode === "hold" ? { beforeStep: held } : {}),
      // More than any load here: the default of 16 would reject a part of 64 calls at a time.
      maxWaiting: 20_000,
      telemetry,
      logger,
    }),
});
