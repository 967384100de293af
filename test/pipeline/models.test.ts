import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { createRouterTransport, type ServiceImpl } from "@connectrpc/connect";
import { pino } from "pino";
import { createAppClients } from "../../src/app/app-clients.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createModelCatalog } from "../../src/pipeline/models.js";
import { createSpanCollector } from "../../src/trace/telemetry/collectors.js";
import { testTelemetry } from "../support/telemetry.js";

const appId = "local/text-to-image-worker";

/** A catalog of one app. `serving` reports that a replica of the app became healthy. */
function catalogOf(t: TestContext, describeModel: ServiceImpl<typeof TextToImageWorkerService>["describeModel"]) {
  let serving = () => {};
  const directory = createAppDirectory({ apps: { [appId]: { target: "127.0.0.1:1" } }, defaultApp: appId });
  const apps = createAppClients({
    directory,
    telemetry: testTelemetry(t, "image-pipeline", { collector: createSpanCollector() }),
    connect: () => ({
      transport: createRouterTransport((router) => void router.service(TextToImageWorkerService, { describeModel })),
      onServing(listener) {
        serving = listener;
      },
      close() {},
    }),
  });
  const models = createModelCatalog({ directory, apps, logger: pino({ level: "silent" }) });
  return { serving: () => serving(), names: async () => (await models.list(() => true)).map(({ name }) => name) };
}

suite("model catalog", () => {
  test("the first list asks an app once, although that opens its connection", async (t) => {
    let asked = 0;
    const { names } = catalogOf(t, () => ({ model: { name: `model ${++asked}` } }));
    assert.deepEqual(await names(), ["model 1"]);
    assert.deepEqual(await names(), ["model 1"]);
    assert.equal(asked, 1);
  });

  test("a replica that becomes healthy during a question leads to one more", async (t) => {
    let asked = 0;
    let answerLast = () => {};
    const last = new Promise<void>((resolve) => {
      answerLast = resolve;
    });
    const { names, serving } = catalogOf(t, () => {
      asked++;
      if (asked === 1) {
        serving();
        serving();
      } else {
        answerLast();
      }
      return { model: { name: `model ${asked}` } };
    });
    assert.deepEqual(await names(), ["model 1"]);
    await last;
    // The answer arrives after the question.
    while ((await names())[0] !== "model 2") {
      await new Promise(setImmediate);
    }
    assert.equal(asked, 2);
  });
});
