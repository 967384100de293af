import assert from "node:assert/strict";
import { test } from "node:test";
import { observe } from "../../src/app/observe.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createPipelineApp, type PipelineExtension } from "../../src/pipeline/pipeline-app.js";

test("extensions are closed from the last to the first, which the others may use until then", async () => {
  const closed: string[] = [];
  const extension = (name: string, close: () => Promise<void>): (() => PipelineExtension) => {
    return () => ({
      services: [],
      routes: () => {},
      httpRoute: () => false,
      end: () => {},
      async close() {
        await close();
        closed.push(name);
      },
    });
  };
  const pipeline = await createPipelineApp({
    directory: createAppDirectory({ apps: { "acme/worker": { target: "127.0.0.1:1" } }, defaultApp: "acme/worker" }),
    extensions: [
      extension("database", async () => {}),
      extension("slow", () => new Promise((resolve) => setImmediate(resolve))),
      extension("last", async () => {}),
    ],
    ...observe({ serviceName: "image-pipeline", level: "silent", environment: {}, write: () => {} }),
  }).serve({ port: 0 });
  await pipeline.stop({ graceMs: 0 });
  assert.deepEqual(closed, ["last", "slow", "database"]);
});
