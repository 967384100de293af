import assert from "node:assert/strict";
import { once } from "node:events";
import test from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, createClient, createRouterTransport } from "@connectrpc/connect";
import { effect } from "@preact/signals";
import { createPipelineClient } from "../../src/client/client.js";
import {
  GenerateRequestSchema,
  type GenerationOptions,
  ImagePipelineService,
  type ModelSchema,
  Scheduler,
  Stage,
} from "../../src/contracts/contracts.js";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { JobService } from "../../src/gen/throughline/v1/job_pb.js";
import { encodeImage } from "../../src/image/encode-image.js";
import { settingsKeyword, settingsText } from "../../src/image/image-settings.js";
import { openHistory } from "../../src/page/image/history.js";
import { contractRules } from "../../src/page/request/form-rules.js";
import { emptyForm } from "../../src/page/request/request-form.js";
import type { PrepareImage } from "../../src/page/request/start-image.js";
import { createStudio, type Studio } from "../../src/page/shell/studio.js";
import { when } from "./support/when.js";

const traceId = "4e59a70947e16460dd0641a9b92f3047";
const image = "data:image/png;base64,AAAA";
const result = { image: { url: image, width: 64, height: 64 }, seed: 7, traceId, model: "fake" };

const model: MessageInitShape<typeof ModelSchema> = {
  workerApp: "local/small",
  name: "small",
  defaults: { width: 128, height: 128, numInferenceSteps: 20, guidanceScale: 4, scheduler: Scheduler.EULER_DISCRETE },
  minSize: 64,
  maxSize: 256,
  sizeMultiple: 32,
  maxNumInferenceSteps: 50,
  schedulers: [Scheduler.EULER_DISCRETE, Scheduler.DDIM],
  examplePrompts: ["a kite", "a very long walk"],
};

/** A studio over services that are made for the test. */
async function studioOver(
  routes: (router: ConnectRouter) => void,
  prepareImage: PrepareImage = async (file) => ({ image: file, width: 64, height: 64, original: undefined }),
): Promise<Studio> {
  const transport = createRouterTransport(routes);
  return createStudio({
    pipeline: createPipelineClient({ transport }),
    studio: createClient(StudioService, transport),
    jobs: createClient(JobService, transport),
    history: await openHistory({ store: { load: async () => [], save: async () => {}, remove: async () => {} } }),
    form: undefined,
    now: Date.now,
    random: () => 0.5,
    makeThumbnail: async (blob) => blob,
    prepareImage,
    fetch: () => Promise.reject(new Error("no image")),
    newId: () => "1",
    maxWatchedJobs: 1,
    areJobsOpen: false,
  });
}

test("studio shows an image's progress and keeps it with its seed and trace", async () => {
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      async *generateStream(_, { responseHeader }) {
        responseHeader.set("traceresponse", `00-${traceId}-00f067aa0ba902b7-01`);
        yield { event: { case: "queued", value: { position: 2, estimatedWaitMs: 3000 } } };
        for (const step of [1, 2]) {
          const value = {
            stage: Stage.DENOISING,
            step,
            totalSteps: 2,
            preview: Uint8Array.of(step),
            previewContentType: "image/png",
          };
          yield { event: { case: "progress", value } };
        }
        yield { event: { case: "result", value: result } };
      },
    });
    router.service(StudioService, {
      getStudio: () => ({ hasTraces: true }),
      async *watchEntityMap(_, { signal }) {
        yield {};
        await once(signal, "abort");
      },
      listTraces: () => ({}),
      async *watchTrace(request) {
        const span = { traceId: request.traceId, spanId: "a", name: "image-pipeline", startUnixNano: 1n };
        yield { spans: [span] };
        yield { spans: [{ ...span, endUnixNano: 2n }] };
      },
    });
  });
  const kinds: string[] = [];
  effect(() => {
    const state = studio.generation.state.value;
    kinds.push(
      state.kind === "running"
        ? `${state.phase.kind} ${state.step}/${state.totalSteps} ${state.preview?.bytes}`
        : state.kind,
    );
  });
  studio.connection.start();
  await when(studio.connection.state, ({ kind }) => kind === "live");
  studio.edit("prompt", "a red heart");
  studio.generate();
  const entry = await when(studio.shown, (shown) => shown !== undefined);
  assert.deepEqual(kinds, ["idle", "sent 0/0 undefined", "queued 0/0 undefined", "stage 1/2 1", "stage 2/2 2", "done"]);
  assert.deepEqual(
    [entry?.seed, entry?.form.seed, entry?.form.prompt, entry?.traceId],
    [7, "7", "a red heart", traceId],
  );
  assert.equal(studio.form.value.seed, "", "the next image draws its own seed");
  const trace = await when(studio.traces.trace, (watched) => watched?.watching === false);
  assert.deepEqual(
    trace?.spans.map(({ spanId, endUnixNano }) => [spanId, endUnixNano]),
    [["a", 2n]],
  );
  studio.connection.stop();
});

test("cancel ends the service's call", async () => {
  let ended = () => {};
  const callEnded = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      async *generateStream(_, { signal }) {
        yield { event: { case: "progress", value: { stage: Stage.DENOISING, step: 5, totalSteps: 20 } } };
        await once(signal, "abort");
        ended();
      },
    });
  });
  studio.edit("prompt", "a red heart");
  studio.generate();
  await when(studio.generation.state, (state) => state.kind === "running" && state.step === 5);
  studio.cancel();
  const state = studio.generation.state.value;
  assert.ok(state.kind === "cancelled" && state.running.step === 5);
  await callEnded;
  assert.equal(studio.generation.state.value.kind, "cancelled");
});

test("collector outage is not shown as a lost service", async () => {
  const studio = await studioOver((router) => {
    router.service(StudioService, {
      getStudio: () => ({ hasTraces: true }),
      // biome-ignore lint/correctness/useYield: it fails before its first message
      async *watchEntityMap() {
        throw new ConnectError("no collector", Code.Unavailable);
      },
    });
  });
  studio.connection.start();
  const state = await when(studio.connection.state, ({ kind }) => kind === "lost");
  assert.ok(state.kind === "lost" && state.part === "collector");
  studio.connection.stop();
});

test("error for a lost service is cleared when it is back, and can be dismissed", async () => {
  let away = true;
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      // biome-ignore lint/correctness/useYield: it fails before its first message
      async *generateStream() {
        throw new ConnectError("missing EndStreamResponse", Code.Internal);
      },
    });
    router.service(StudioService, {
      getStudio() {
        if (away) {
          throw new ConnectError("missing EndStreamResponse", Code.Internal);
        }
        return { hasTraces: false };
      },
    });
  });
  studio.connection.start();
  const lost = await when(studio.connection.state, ({ kind }) => kind === "lost");
  assert.ok(lost.kind === "lost" && lost.part === "service");
  studio.edit("prompt", "a red heart");
  studio.generate();
  const failed = await when(studio.generation.state, ({ kind }) => kind === "failed");
  assert.ok(failed.kind === "failed" && failed.problem.connectionLost);
  away = false;
  studio.connection.retry();
  await when(studio.generation.state, ({ kind }) => kind === "idle");
  studio.generate();
  await when(studio.generation.state, ({ kind }) => kind === "failed");
  studio.generation.forget();
  assert.equal(studio.generation.state.value.kind, "idle");
  studio.connection.stop();
});

test("request that ends without an image is shown as an error", async () => {
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      async *generateStream() {
        yield { event: { case: "progress", value: { stage: Stage.DENOISING, step: 5, totalSteps: 20 } } };
      },
    });
  });
  studio.edit("prompt", "a red heart");
  studio.generate();
  const state = await when(studio.generation.state, ({ kind }) => kind !== "running");
  assert.ok(state.kind === "failed", state.kind);
  assert.match(state.problem.title, /without an image/);
  assert.notEqual(state.problem.advice, "");
});

test("invalid form is not sent, and its errors disappear when corrected", async () => {
  const studio = await studioOver(() => {});
  studio.edit("width", "100");
  studio.generate();
  assert.deepEqual([...studio.wrong.value.keys()], ["prompt", "width"]);
  assert.equal(studio.generation.state.value.kind, "idle");
  studio.edit("width", "104");
  assert.deepEqual([...studio.wrong.value.keys()], ["prompt"]);
});

test("a request waits for the image that is being read, and is not sent without it", async () => {
  const sent: (Uint8Array | undefined)[] = [];
  const reads: { readonly end: (error?: Error) => void }[] = [];
  const studio = await studioOver(
    (router) => {
      router.service(ImagePipelineService, {
        async *generateStream({ request }) {
          sent.push(request?.options?.initImage);
          yield { event: { case: "result", value: result } };
        },
      });
    },
    (file) =>
      new Promise((resolve, reject) => {
        const prepared = { image: file, width: 64, height: 64, original: undefined };
        reads.push({ end: (error) => (error ? reject(error) : resolve(prepared)) });
      }),
  );
  const { state } = studio.start;
  studio.edit("prompt", "a red heart");
  void studio.startFrom(new Blob(["first"]), "first.png");
  void studio.startFrom(new Blob(["second"]), "second.png");
  studio.generate();
  reads[0]?.end();
  assert.deepEqual([state.value, sent], [{ kind: "reading", name: "second.png" }, []]);
  reads[1]?.end();
  const [entry] = await when(studio.history.entries, (entries) => entries.length === 1);
  assert.deepEqual(
    sent.map((bytes) => Buffer.from(bytes ?? []).toString()),
    ["second"],
  );
  assert.equal(entry?.start?.name, "second.png");

  const failed = studio.startFrom(new Blob(["third"]), "third.png");
  studio.generate();
  reads[2]?.end(new Error("is no image."));
  await failed;
  await studio.start.settled();
  assert.deepEqual(state.value, { kind: "failed", message: "third.png is no image." });
  assert.equal(sent.length, 1);
  studio.regenerate(entry ?? assert.fail("no entry"), "same");
  await when(studio.history.entries, (entries) => entries.length === 2);
  assert.equal(Buffer.from(sent[1] ?? []).toString(), "second");
});

test("settings in a PNG file fill the form, also where the model takes no image", async () => {
  const settings = create(GenerateRequestSchema, {
    prompt: "a red heart",
    options: { seed: 42, numInferenceSteps: 3, guidanceScale: 7.1, scheduler: Scheduler.DDIM },
  });
  const options = settings.options ?? assert.fail();
  const pixels = { data: new Uint8Array(3), width: 1, height: 1 };
  const file = async (values: GenerationOptions) => {
    const texts = new Map([[settingsKeyword, settingsText(settings.prompt, values)]]);
    return new Blob([new Uint8Array((await encodeImage(pixels, "png", { texts })).bytes)]);
  };
  const studio = await studioOver(() => {});
  studio.edit("negativePrompt", "clouds");
  const asked = { ...emptyForm, prompt: "a red heart", seed: "42", steps: "3", guidance: "7.1", scheduler: "ddim" };

  await studio.startFrom(await file(options), "heart.png");
  const state = studio.start.state.value;
  assert.ok(state.kind === "ready" && state.settings !== undefined);
  studio.useSettings(state.settings);
  assert.deepEqual(studio.form.value, asked);
  assert.deepEqual(studio.start.state.value, { kind: "none" });

  studio.useSettings(create(GenerateRequestSchema, { ...settings, options: { ...options, strength: 0.5 } }));
  assert.equal(studio.form.value.strength, "0.5");
  assert.equal(studio.start.state.value.kind, "failed");

  const textOnly = await studioOver((router) => {
    router.service(ImagePipelineService, { listModels: () => ({ models: [model] }) });
    router.service(StudioService, { getStudio: () => ({ workerApps: ["local/small"] }) });
  });
  textOnly.connection.start();
  await when(textOnly.model, (known) => known !== undefined);
  await textOnly.startFrom(await file(options), "heart.png");
  assert.deepEqual(textOnly.form.value, asked);
  textOnly.connection.stop();
});

test("again keeps the seed of an image, vary does not, and lock keeps it for the next", async () => {
  const seeds: (number | undefined)[] = [];
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      async *generateStream({ request }) {
        seeds.push(request?.options?.seed);
        yield { event: { case: "result", value: { ...result, seed: request?.options?.seed ?? 99 } } };
      },
    });
  });
  const generated = (count: number) => when(studio.history.entries, (entries) => entries.length === count);
  studio.edit("prompt", "a red heart");
  studio.generate();
  const [first] = await generated(1);
  assert.ok(first !== undefined);
  studio.regenerate(first, "same");
  await generated(2);
  studio.regenerate(first, "other");
  await generated(3);
  studio.lockSeed(true);
  assert.equal(studio.form.value.seed, "99");
  studio.lockSeed(false);
  assert.equal(studio.form.value.seed, "");
  assert.deepEqual(seeds, [undefined, 99, undefined]);
});

test("form has the limits and defaults of the chosen app's model, and the contract's for an unknown model", async () => {
  const sent: (string | undefined)[] = [];
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      listModels: () => ({ models: [model, { workerApp: "local/away" }] }),
      async *generateStream({ request }) {
        sent.push(request?.workerApp);
        yield { event: { case: "result", value: result } };
      },
    });
    router.service(StudioService, { getStudio: () => ({ workerApps: ["local/small", "local/away"] }) });
  });
  assert.equal(studio.rules.value, contractRules, "before the answer");
  studio.connection.start();
  await when(studio.model, (known) => known !== undefined);
  assert.deepEqual(studio.apps.value, [
    { appId: "local/small", model: "small" },
    { appId: "local/away", model: "" },
  ]);
  assert.deepEqual([studio.defaults.value.width, studio.defaults.value.steps], ["128", "20"]);

  studio.edit("prompt", "a red heart");
  studio.edit("width", "512");
  studio.edit("steps", "51");
  studio.generate();
  assert.deepEqual(Object.fromEntries(studio.wrong.value), {
    width: "This model takes a multiple of 32 from 64 to 256.",
    steps: "This model takes a whole number from 1 to 50.",
  });
  studio.edit("scheduler", "ddim");
  assert.deepEqual([...studio.wrong.value.keys()], ["width"], "another scheduler can take other steps");
  for (const app of ["local/away", "local/unlisted"]) {
    studio.edit("workerApp", app);
    assert.equal(studio.wrong.value.size, 0);
    assert.deepEqual([studio.model.value, studio.rules.value], [undefined, contractRules]);
    studio.generate();
    await when(studio.generation.state, ({ kind }) => kind === "done");
  }
  assert.deepEqual(sent, ["local/away", "local/unlisted"]);
  studio.connection.stop();
});

test("a service without models leaves the contract's limits, also where it had some before", async () => {
  let isOlder = true;
  let asked = 0;
  let away = false;
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      listModels() {
        asked++;
        if (isOlder) {
          throw new ConnectError("unknown method", Code.Unimplemented);
        }
        return { models: [model] };
      },
    });
    router.service(StudioService, {
      getStudio() {
        if (away) {
          throw new ConnectError("missing EndStreamResponse", Code.Internal);
        }
        return { workerApps: ["local/small"] };
      },
    });
  });
  const reconnect = async () => {
    away = true;
    studio.connection.start();
    await when(studio.connection.state, ({ kind }) => kind === "lost");
    away = false;
    studio.connection.retry();
    await when(studio.connection.state, ({ kind }) => kind === "live");
  };
  const none = studio.models.list.value;
  studio.connection.start();
  await when(studio.models.list, (list) => list !== none);
  assert.deepEqual([studio.model.value, studio.rules.value], [undefined, contractRules]);
  assert.deepEqual(studio.apps.value, [{ appId: "local/small", model: "" }]);

  isOlder = false;
  await reconnect();
  await when(studio.model, (known) => known?.name === "small");
  isOlder = true;
  await reconnect();
  await when(studio.model, (known) => known === undefined);
  assert.equal(studio.rules.value, contractRules);
  assert.equal(asked, 3, "once for each time that the service was reached");
  studio.connection.stop();
});

test("models are asked for again when an app without one has generated", async () => {
  let asked = 0;
  const studio = await studioOver((router) => {
    router.service(ImagePipelineService, {
      listModels: () => ({ models: [asked++ === 0 ? { workerApp: "local/small" } : model] }),
      async *generateStream() {
        yield { event: { case: "result", value: result } };
      },
    });
    router.service(StudioService, { getStudio: () => ({ workerApps: ["local/small"] }) });
  });
  studio.connection.start();
  await when(studio.connection.state, ({ kind }) => kind === "live");
  await when(studio.models.list, (list) => list.length === 1);
  assert.equal(studio.model.value, undefined);
  studio.edit("prompt", "a red heart");
  for (const images of [1, 2]) {
    studio.generate();
    await when(studio.history.entries, (entries) => entries.length === images);
    await when(studio.model, (known) => known?.name === "small");
  }
  assert.equal(asked, 2, "not again once it is known");
  studio.connection.stop();
});

test("trace list is reloaded with each graph update", async () => {
  const limits: (number | undefined)[] = [];
  let changeMap = () => {};
  const mapChanged = new Promise<void>((resolve) => {
    changeMap = resolve;
  });
  const studio = await studioOver((router) => {
    router.service(StudioService, {
      getStudio: () => ({ hasTraces: true }),
      async *watchEntityMap(_, { signal }) {
        yield {};
        await mapChanged;
        yield {};
        await once(signal, "abort");
      },
      listTraces({ limit }) {
        limits.push(limit);
        return { traces: limits.map((_, index) => ({ traceId: `${index}` })).reverse() };
      },
    });
  });
  const listed = (count: number) => when(studio.connection.traces, ({ length }) => length === count);
  studio.connection.start();
  await listed(1);
  changeMap();
  assert.deepEqual(
    (await listed(2)).map((trace) => trace.traceId),
    ["1", "0"],
  );
  assert.deepEqual(limits, [50, 50]);
  studio.connection.stop();
});

test("selected span stays selected while its trace grows, and not in another trace", async () => {
  let grow = () => {};
  const grown = new Promise<void>((resolve) => {
    grow = resolve;
  });
  const studio = await studioOver((router) => {
    router.service(StudioService, {
      getStudio: () => ({ hasTraces: true }),
      async *watchEntityMap(_, { signal }) {
        yield {};
        await once(signal, "abort");
      },
      listTraces: () => ({}),
      async *watchTrace() {
        yield { spans: [{ traceId, spanId: "a" }] };
        await grown;
        yield { spans: [{ traceId, spanId: "b" }] };
      },
    });
  });
  studio.connection.start();
  await when(studio.connection.state, ({ kind }) => kind === "live");
  studio.lookAt(traceId);
  await when(studio.traces.trace, (trace) => trace?.spans.length === 1);
  studio.selectedSpan.value = "a";
  grow();
  await when(studio.traces.trace, (trace) => trace?.spans.length === 2 && !trace.watching);
  assert.equal(studio.selectedSpan.value, "a");
  studio.lookAt("0".repeat(32));
  assert.equal(studio.selectedSpan.value, undefined);
  studio.connection.stop();
});

test("lost connection is retried, and at once on request", async () => {
  let down = true;
  const studio = await studioOver((router) => {
    router.service(StudioService, {
      getStudio() {
        if (down) {
          throw new ConnectError("away", Code.Unavailable);
        }
        return { hasTraces: false, workerApps: ["local/a", "local/b"] };
      },
    });
  });
  studio.connection.start();
  await when(studio.connection.state, ({ kind }) => kind === "lost");
  down = false;
  studio.connection.retry();
  await when(studio.connection.state, ({ kind }) => kind === "live");
  assert.deepEqual(studio.connection.offer.value?.workerApps, ["local/a", "local/b"]);
  studio.connection.stop();
});

test("service that requires a key is called again when one is set", async () => {
  let keyed = false;
  const check = () => {
    if (!keyed) {
      throw new ConnectError("no key", Code.Unauthenticated);
    }
  };
  const studio = await studioOver((router) => {
    router.service(StudioService, {
      getStudio() {
        check();
        return {};
      },
    });
    router.service(ImagePipelineService, {
      async *generateStream() {
        check();
        yield { event: { case: "result", value: result } };
      },
    });
  });
  studio.connection.start();
  await when(studio.needsKey, (needed) => needed);
  studio.edit("prompt", "a red heart");
  studio.generate();
  await when(studio.generation.state, ({ kind }) => kind === "failed");
  keyed = true;
  studio.keyChanged();
  await when(studio.connection.state, ({ kind }) => kind === "live");
  await when(studio.generation.state, ({ kind }) => kind === "done");
  assert.equal(studio.needsKey.value, false);
  studio.connection.stop();
});
