import assert from "node:assert/strict";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { ImagePipelineService, Scheduler } from "../../src/contracts/contracts.js";
import {
  GetStudioResponseSchema,
  StudioService,
  type WatchEntityMapResponseSchema,
} from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTestMesh } from "../../src/testing/testing.js";
import { createHeldEngine } from "../support/held-engine.js";
import { assertAccessible, assertNoSidewaysScroll } from "./page-checks.js";
import { type PageServer, startPageServer } from "./page-server.js";
import { type BrowserTools, openStudioPage } from "./studio-page.js";

/** Moments that the real system has too rarely: full queues, rejections, services that go, and a map of many apps. */
export async function testScriptedServices(t: TestContext, tools: BrowserTools): Promise<void> {
  await t.test("waiting request shows its position, and a full queue shows what to do", async (t) => {
    const { engine, reached, release } = createHeldEngine();
    const mesh = await createTestMesh({ engine, maxWaiting: 2 });
    t.after(async () => {
      release();
      await mesh.stop();
    });
    const server = await serve(t, { routes: passTo(mesh) });
    const others = [0, 1].map(() => mesh.pipeline.generateStream({ request: { prompt: "another one" } }));
    const waiting = others.map(async (events) => {
      for await (const _ of events) {
        // Read to the end.
      }
    });
    void Promise.allSettled(waiting);
    await reached;
    const studio = await openStudioPage(t, tools, server.url);
    await studio.generate("a red heart");
    await studio.page.getByText("Waiting: 1 before you").first().waitFor();
    await tools.screenshot(studio.page, "queued");

    const second = await openStudioPage(t, tools, server.url);
    await second.generate("a red heart");
    await second.page.getByText("All workers are busy and their queue is full.").waitFor();
    await second.page.getByRole("button", { name: /Generate again/ }).waitFor();
    await assertAccessible(second.page);
    await tools.screenshot(second.page, "queue-full");

    release();
    await studio.done();
    await second.page.getByRole("button", { name: /Generate again/ }).click();
    await second.done();
    assert.equal(await second.page.getByRole("alert").count(), 0);
  });

  await t.test("cancel ends the service's call", async (t) => {
    let aborted = Promise.resolve();
    const engine = createFakeEngine({
      async beforeStep(step, _, signal) {
        if (step === 3) {
          aborted = once(signal, "abort").then(() => {});
          await aborted;
          signal.throwIfAborted();
        }
      },
    });
    const mesh = await createTestMesh({ engine });
    t.after(() => mesh.stop());
    const server = await serve(t, { routes: passTo(mesh) });
    const studio = await openStudioPage(t, tools, server.url);
    await studio.generate("a red heart");
    await studio.page.getByText(/step 2 of 4/).waitFor();
    await studio.page.getByRole("button", { name: /^Cancel/ }).click();
    await aborted;
    await studio.page.getByText("Cancelled at step 2 of 4.").first().waitFor();
    assert.equal(engine.stepsRun, 2);
  });

  await t.test("field that the service rejects is marked", async (t) => {
    const mesh = await createTestMesh();
    t.after(() => mesh.stop());
    const server = await serve(t, { routes: passTo(mesh) });
    const { page, generate } = await openStudioPage(t, tools, server.url);
    // Passes the page's own check, and is nothing once the service has cleaned it.
    await generate("\u0001");
    await page.getByText("The service does not take this request.").waitFor();
    const prompt = page.getByLabel("Prompt", { exact: true });
    assert.equal(await prompt.getAttribute("aria-invalid"), "true");
    const described = await prompt.getAttribute("aria-describedby");
    assert.ok(((await page.locator(`#${described}`).textContent()) ?? "").length > 5);
    await page.getByLabel("Width, px").fill("100");
    await page.keyboard.press("Control+Enter");
    await page.getByText("A multiple of 8 from 64 to 2048.").waitFor();
    assert.equal(await page.getByText("The service does not take this request.").count(), 0);
    await assertAccessible(page);
    await tools.screenshot(page, "rejected");
  });

  await t.test("service with authentication gets the key with each call of this tab only", async (t) => {
    const key = "correct-horse-battery";
    const check = (header: Headers) => {
      if (header.get("authorization") !== `Bearer ${key}`) {
        throw new ConnectError("a caller's key is needed", Code.Unauthenticated);
      }
    };
    const mesh = await createTestMesh();
    t.after(() => mesh.stop());
    const server = await serve(t, { routes: passTo(mesh, check), check });
    const { page, generate, done } = await openStudioPage(t, tools, server.url);
    await page.getByText("The service needs a key.").waitFor();
    await assertAccessible(page);
    await tools.screenshot(page, "key");
    await page.getByLabel(/The service needs a key/).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("The service does not take this key.").waitFor();
    await page.getByLabel(/does not take this key/).fill(key);
    await page.keyboard.press("Enter");
    await page.getByText("Connected").waitFor();
    await generate("a red heart");
    await done();
    const kept = await page.evaluate<string>("JSON.stringify({ ...localStorage })");
    assert.doesNotMatch(kept, /correct-horse/);
    const other = await page.context().newPage();
    await other.goto(server.url);
    await other.getByText("The service needs a key.").waitFor();
  });

  await t.test("lost service is reported, and used again when it returns", async (t) => {
    const routes = (router: ConnectRouter) => {
      router.service(ImagePipelineService, {});
    };
    const first = await serve(t, { routes });
    const { page, generate } = await openStudioPage(t, tools, first.url);
    await page.getByText("Connected").waitFor();
    await first.stop();
    await page.getByText("The service cannot be reached.").first().waitFor();
    await generate("a red heart");
    await page.getByRole("button", { name: /^Generate Ctrl/ }).waitFor();
    assert.equal(await page.getByRole("alert").count(), 1, "it is said once");
    await assertAccessible(page);
    await tools.screenshot(page, "service-gone");
    await serve(t, { routes, port: Number(new URL(first.url).port) });
    await page.getByText("Connected").waitFor();
    assert.equal(await page.getByRole("region", { name: "Connection" }).count(), 0);
    const failure = page.getByRole("region", { name: "Failure" });
    assert.equal(await failure.count(), 0, "the alarm ends with the outage");
    await generate("a red heart");
    await failure.getByText("The service does not know this call.").waitFor();
  });

  await t.test("app can be chosen when there are several, and a trace opened in its backend", async (t) => {
    const asked: string[] = [];
    const server = await serve(t, {
      routes: (router) =>
        router.service(ImagePipelineService, {
          // biome-ignore lint/correctness/useYield: it rejects
          async *generateStream({ request }) {
            asked.push(request?.workerApp ?? "");
            throw new ConnectError("unknown app", Code.NotFound);
          },
        }),
      offer: {
        hasTraces: true,
        workerApps: ["local/fast", "local/fine"],
        traceBackend: "Jaeger",
        traceUrlTemplate: "http://127.0.0.1:16686/trace/{traceId}",
      },
    });
    const { page, generate } = await openStudioPage(t, tools, server.url);
    await page.getByLabel("App").selectOption("local/fine");
    await generate("a red heart");
    await page.getByText("The service does not know this app.").waitFor();
    assert.deepEqual(asked, ["local/fine"]);
    await page.getByRole("button", { name: /4e59a709/ }).click();
    const link = page.getByRole("link", { name: "Open in Jaeger" });
    assert.equal(await link.getAttribute("href"), `http://127.0.0.1:16686/trace/${traceId}`);
  });

  await t.test("form has the defaults, limits and examples of the chosen app's model", async (t) => {
    const server = await serve(t, {
      routes: (router) =>
        router.service(ImagePipelineService, {
          listModels: () => ({
            models: [
              {
                workerApp: "local/small",
                name: "small-xl",
                defaults: {
                  width: 128,
                  height: 128,
                  numInferenceSteps: 20,
                  guidanceScale: 4.5,
                  scheduler: Scheduler.EULER_DISCRETE,
                },
                minSize: 64,
                maxSize: 256,
                sizeMultiple: 32,
                maxNumInferenceSteps: 50,
                schedulers: [Scheduler.EULER_DISCRETE, Scheduler.LCM],
                examplePrompts: ["a red kite", `a street in the rain, ${"with many lights ".repeat(20)}`],
              },
              { workerApp: "local/away" },
            ],
          }),
        }),
      offer: { hasTraces: true, workerApps: ["local/small", "local/away"] },
    });
    const { page, generate } = await openStudioPage(t, tools, server.url);
    await page.getByText("Model small-xl", { exact: true }).waitFor();
    const width = page.getByLabel("Width, px");
    assert.equal(await width.getAttribute("placeholder"), "128");
    await page.getByRole("button", { name: "a red kite" }).click();
    assert.equal(await page.getByLabel("Prompt", { exact: true }).inputValue(), "a red kite");
    await assertAccessible(page);
    await assertNoSidewaysScroll(page);
    await tools.screenshot(page, "model");
    await width.fill("512");
    await generate("a red kite");
    await page.getByText("This model takes a multiple of 32 from 64 to 256.").waitFor();
    await page.getByLabel("App").selectOption("local/away");
    await page.getByLabel("Scheduler").selectOption({ label: "The model’s own" });
    assert.equal(await width.getAttribute("placeholder"), "auto");
    assert.equal(await page.getByText("This model takes").count(), 0);
    const phone = await openStudioPage(t, tools, server.url, { viewport: { width: 375, height: 812 } });
    await phone.page.getByRole("button", { name: "a red kite" }).waitFor();
    await assertNoSidewaysScroll(phone.page);
    await tools.screenshot(phone.page, "model-phone");
  });

  await t.test("service graph of eight apps is readable, also on a phone", async (t) => {
    const server = await serve(t, { routes: () => {}, map: manyApps });
    for (const [name, viewport] of [
      ["map", { width: 1440, height: 900 }],
      ["map-phone", { width: 360, height: 780 }],
    ] as const) {
      const { page } = await openStudioPage(t, tools, server.url, { viewport });
      const map = page.getByRole("img", { name: /^8 apps/ });
      await map.waitFor();
      await assertNoSidewaysScroll(page);
      await page.getByText("As a table").click();
      assert.equal(await page.getByRole("row").count(), 1 + 8 + 9);
      await assertAccessible(page);
      await tools.screenshot(page, name, true);
    }
  });
}

const traceId = "4e59a70947e16460dd0641a9b92f3047";

interface Served {
  readonly routes: (router: ConnectRouter) => void;
  readonly offer?: MessageInitShape<typeof GetStudioResponseSchema>;
  readonly map?: MessageInitShape<typeof WatchEntityMapResponseSchema>;
  readonly check?: (header: Headers) => void;
  readonly port?: number;
}

/** The page with the given services and a small studio. */
async function serve(t: TestContext, { routes, offer, map = {}, check = () => {}, port }: Served): Promise<PageServer> {
  const end = new AbortController();
  const server = await startPageServer((router) => {
    routes(router);
    router.service(StudioService, {
      getStudio(_, { requestHeader }) {
        check(requestHeader);
        return create(GetStudioResponseSchema, { hasTraces: true, workerApps: ["local/only"], ...offer });
      },
      async *watchEntityMap(_, { signal }) {
        yield map;
        await once(AbortSignal.any([signal, end.signal]), "abort");
      },
      listTraces: () => ({
        traces: [
          {
            traceId,
            name: "image-pipeline",
            service: "image-pipeline",
            startUnixNano: BigInt(Date.now()) * 1_000_000n,
            spanCount: 6,
            durationNano: 1_500_000_000n,
          },
        ],
      }),
      async *watchTrace(request) {
        yield {
          spans: [
            { traceId: request.traceId, spanId: "a", name: "image-pipeline", startUnixNano: 1n, endUnixNano: 2n },
          ],
        };
      },
    });
  }, port);
  let stopped: Promise<void> | undefined;
  const stop = () => {
    end.abort();
    stopped ??= server.stop();
    return stopped;
  };
  t.after(stop);
  return { url: server.url, stop };
}

/** The pipeline of a mesh, seen through the page's server. */
function passTo(mesh: Awaited<ReturnType<typeof createTestMesh>>, check: (header: Headers) => void = () => {}) {
  return (router: ConnectRouter): void => {
    router.service(ImagePipelineService, {
      generateStream(request, { signal, requestHeader }) {
        check(requestHeader);
        return mesh.pipeline.generateStream(request, { signal });
      },
    });
  };
}

const names = [
  "gateway",
  "image-pipeline",
  "moderation",
  "captioner",
  "text-to-image-worker",
  "upscaler",
  "storage",
  "billing",
];
const figures = { count: 12, perMinute: 2.4, medianMs: 1240, p95Ms: 1710 };
const manyApps: MessageInitShape<typeof WatchEntityMapResponseSchema> = {
  entities: names.map((name) => ({ name, figures })),
  calls: [
    ["gateway", "image-pipeline"],
    ["gateway", "billing"],
    ["image-pipeline", "moderation"],
    ["image-pipeline", "text-to-image-worker"],
    ["image-pipeline", "captioner"],
    ["text-to-image-worker", "storage"],
    ["captioner", "upscaler"],
    ["upscaler", "storage"],
    ["billing", "storage"],
  ].map(([caller = "", callee = ""], index) => ({
    caller,
    callee,
    figures: { ...figures, errorCount: index === 3 ? 2 : 0, running: index === 1 ? 1 : 0 },
  })),
};
