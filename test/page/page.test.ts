import assert from "node:assert/strict";
import { resolveObjectURL } from "node:buffer";
import { once } from "node:events";
import { suite, type TestContext, test } from "node:test";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import type { HTMLAnchorElement } from "happy-dom";
import { ImagePipelineService, Scheduler, Stage } from "../../src/contracts/contracts.js";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { JobService } from "../../src/gen/throughline/v1/job_pb.js";
import { invalidFields } from "../../src/mesh/errors/errors.js";
import { startPageServer } from "../browser/page-server.js";
import { madeJob } from "./support/made-jobs.js";
import { bundlePage, type OpenPage, openPage } from "./support/open-page.js";

const traceId = "4e59a70947e16460dd0641a9b92f3047";
const otherTraceId = "0af7651916cd43dd8448eb211c80319c";
const image = { url: "data:image/png;base64,AAAA", width: 64, height: 64 };
const result = { case: "result", value: { image, seed: 7, traceId, model: "fake" } } as const;
const startUnixNano = 1_760_000_000_000_000_000n;

type Pipeline = Partial<ServiceImpl<typeof ImagePipelineService>>;
type JobsOfPipeline = Partial<ServiceImpl<typeof JobService>>;

suite("the studio's page", async () => {
  const bundle = await bundlePage();
  /** Closed before their server. */
  const pages: OpenPage[] = [];

  /** Serves a pipeline that a test makes up, beside a studio with three traces. */
  const serve = async (t: TestContext, pipeline: Pipeline, jobs?: JobsOfPipeline): Promise<string> => {
    const end = new AbortController();
    const server = await startPageServer((router) => {
      router.service(ImagePipelineService, pipeline);
      if (jobs !== undefined) {
        router.service(JobService, jobs);
      }
      router.service(StudioService, {
        getStudio: () => ({ hasTraces: true, hasJobs: jobs !== undefined }),
        async *watchEntityMap(_, { signal }) {
          yield {};
          await once(AbortSignal.any([signal, end.signal]), "abort");
        },
        listTraces: () => ({
          traces: [
            { traceId, name: "image-pipeline", service: "image-pipeline", startUnixNano, spanCount: 6 },
            { traceId: otherTraceId, name: "image-pipeline", startUnixNano, spanCount: 3, errorCount: 2 },
            { traceId: "b".repeat(32), name: "image-pipeline", startUnixNano, spanCount: 2, running: true },
          ],
        }),
        async *watchTrace(request) {
          yield {
            spans: [{ traceId: request.traceId, spanId: "a", name: "root", startUnixNano: 1n, endUnixNano: 2n }],
          };
        },
      });
    });
    t.after(async () => {
      await Promise.all(pages.splice(0).map((page) => page.close()));
      end.abort();
      await server.stop();
    });
    return server.url;
  };
  const open = async (url: string, storage?: Readonly<Record<string, string>>) => {
    const page = await openPage(bundle, url, storage);
    pages.push(page);
    return page;
  };
  const done = {
    async *generateStream() {
      yield { event: result };
    },
  };

  test("prompts and captions take their direction from their text, and a caption has three lines at most", async (t) => {
    const page = await open(await serve(t, done));
    assert.equal(page.find("#prompt").getAttribute("dir"), "auto");
    assert.equal(page.find("#negativePrompt").getAttribute("dir"), "auto");
    const prompt = "לב אדום ".repeat(100).trim();
    page.type("prompt", prompt);
    page.click("button.primary");
    await page.until(() => page.all(".caption").length > 0);
    const caption = page.find(".caption");
    assert.deepEqual([caption.getAttribute("dir"), caption.getAttribute("title")], ["auto", prompt]);
    // Without a browser no line-clamp is computed.
    const [rule = ""] = page.rulesOf(caption).filter((text) => text.includes("line-clamp"));
    assert.match(rule, /overflow: hidden;.* line-clamp: 3;/);
  });

  test("the form is there again after a reload", async (t) => {
    const url = await serve(t, done);
    const before = await openPage(bundle, url);
    before.type("prompt", "a red heart & more");
    before.type("width", "128");
    await before.close();
    const after = await open(url, before.storage());
    const textOf = (id: string) => Reflect.get(after.find(`#${id}`), "value");
    assert.deepEqual(["prompt", "width", "seed"].map(textOf), ["a red heart & more", "128", ""]);
  });

  for (const [totalSteps, isPlain] of [
    [40, false],
    [41, true],
  ] as const) {
    test(`the bar of ${totalSteps} steps ${isPlain ? "is plain" : "has a notch for each"}; a cancel is no error`, async (t) => {
      const url = await serve(t, {
        async *generateStream(_: unknown, { signal }: { readonly signal: AbortSignal }) {
          yield { event: { case: "progress", value: { stage: Stage.DENOISING, step: 5, totalSteps } } } as const;
          await once(signal, "abort");
        },
      });
      const page = await open(url);
      page.type("prompt", "a red heart");
      page.click("button.primary");
      await page.until(() => page.all("[role=progressbar][aria-valuenow='5']").length > 0);
      assert.equal(page.find("[role=progressbar]").classList.contains("is-plain"), isPlain);
      page.click("button.primary");
      await page.until(() => page.all("[role=progressbar]").length === 0);
      assert.match(page.find("#image").textContent, new RegExp(`Cancelled at step 5 of ${totalSteps}\\.`));
      assert.deepEqual(page.all("[role=alert], .is-error, .wrong"), []);
    });
  }

  test("every field that the model cannot take is marked, with its message", async (t) => {
    const url = await serve(t, {
      // biome-ignore lint/correctness/useYield: it rejects
      async *generateStream() {
        throw invalidFields([
          { path: "options.width", message: "this model takes a multiple of 32 from 64 to 256" },
          { path: "options.num_inference_steps", message: "this model takes a whole number from 1 to 50" },
        ]);
      },
    });
    const page = await open(url);
    page.type("prompt", "a red heart");
    page.click("button.primary");
    await page.until(() => page.all("[aria-invalid=true]").length > 0);
    assert.deepEqual(
      page.all("[aria-invalid=true]").map(({ id }) => [id, page.find(`#${id}-wrong`).textContent]),
      [
        ["width", "This model takes a multiple of 32 from 64 to 256."],
        ["steps", "This model takes a whole number from 1 to 50."],
      ],
    );
    assert.doesNotMatch(page.find("#studio").textContent, /options\./);
  });

  test("the form shows the chosen app's model, its defaults, schedulers and examples", async (t) => {
    const defaults = { width: 96, height: 64, numInferenceSteps: 12, guidanceScale: 4.5, scheduler: Scheduler.DDIM };
    const small = { workerApp: "local/small", name: "small-xl", defaults, minSize: 64, maxSize: 128, sizeMultiple: 32 };
    const schedulers = [Scheduler.EULER_DISCRETE, Scheduler.DDIM];
    const page = await open(
      await serve(t, {
        ...done,
        listModels: () => ({
          models: [
            { ...small, schedulers, maxNumInferenceSteps: 50, examplePrompts: ["a kite", "a very long walk"] },
            { workerApp: "local/turbo", name: "xl-turbo", defaultsReason: "its name says Turbo" },
            { workerApp: "local/away" },
          ],
        }),
      }),
    );
    const shown = () => ({
      placeholders: ["prompt", "width", "height", "steps", "guidance"].map((id) =>
        page.find(`#${id}`).getAttribute("placeholder"),
      ),
      schedulers: page.all("#scheduler option").map(({ textContent }) => textContent),
      examples: page.all(".invitation button").map(({ textContent }) => textContent),
      model: page.all(".model").map(({ textContent }) => textContent),
    });
    await page.until(() => page.all(".model").length > 0);
    assert.deepEqual(shown(), {
      placeholders: ["a kite", "96", "64", "12", "4.5"],
      schedulers: ["DDIM (default)", "Euler", "DDIM"],
      examples: ["a kite", "a very long walk"],
      model: ["Model small-xl"],
    });
    assert.deepEqual(
      page.all("#workerApp option").map(({ textContent }) => textContent),
      ["local/small: small-xl (default)", "local/turbo: xl-turbo", "local/away"],
    );
    page.choose("workerApp", "local/turbo");
    await page.until(() => page.find(".model").textContent === "Model xl-turbo, distilled: its name says Turbo");
    page.choose("workerApp", "");
    await page.until(() => page.find(".model").textContent === "Model small-xl");

    page.clickButton("a very long walk");
    page.type("width", "256");
    page.click("button.primary");
    await page.until(() => page.all("[aria-invalid=true]").length > 0);
    assert.equal(page.find("#width-wrong").textContent, "This model takes a multiple of 32 from 64 to 128.");

    page.choose("workerApp", "local/away");
    await page.until(() => page.all(".model").length === 0);
    assert.deepEqual(page.all("[aria-invalid=true]"), []);
    assert.deepEqual(shown(), {
      placeholders: ["A red heart", "auto", "auto", "auto", "auto"],
      schedulers: [
        "The model’s own",
        "Euler",
        "Euler ancestral",
        "DPM++ 2M",
        "DPM++ 2M Karras",
        "DDIM",
        "LCM",
        "UniPC",
        "DPM++ 2M SDE",
        "DPM++ 2M SDE Karras",
      ],
      examples: ["a red heart", "a smiling face", "a slice of pizza"],
      model: [],
    });
    page.click("button.primary");
    await page.until(() => page.all(".caption").length > 0);
  });

  test("an app and a scheduler of a link stay chosen where the service does not list them", async (t) => {
    const model = { workerApp: "local/small", name: "small-xl", schedulers: [Scheduler.DDIM] };
    const url = await serve(t, { ...done, listModels: () => ({ models: [model] }) });
    const page = await open(`${url}/#prompt=a+kite&app=other/app&scheduler=lcm`);
    await page.until(() => page.all("#workerApp option").length === 2);
    const chosen = (id: string) => Reflect.get(page.find(`#${id}`), "value");
    assert.deepEqual(["workerApp", "scheduler"].map(chosen), ["other/app", "lcm"]);
    page.choose("workerApp", "");
    await page.until(() => page.all(".model").length > 0);
    assert.equal(chosen("scheduler"), "lcm");
    assert.deepEqual(page.all("#workerApp"), [], "the only app is no choice");
    page.click("button.primary");
    await page.until(() => page.all("#scheduler-wrong").length > 0);
  });

  test("recent traces show their state, their time, and the image that this browser has", async (t) => {
    const page = await open(await serve(t, done));
    page.type("prompt", "a red heart");
    page.click("button.primary");
    await page.until(() => page.all(".recent img.trace-thumbnail").length > 0);
    const rows = page.all(".recent li");
    assert.deepEqual(
      rows.map((row) => [
        /6 spans|2 errors|running/.exec(row.textContent)?.[0],
        row.querySelector("time")?.getAttribute("datetime"),
        row.querySelectorAll("img.trace-thumbnail").length,
      ]),
      [
        ["6 spans", "2025-10-09T08:53:20.000Z", 1],
        ["2 errors", "2025-10-09T08:53:20.000Z", 0],
        ["running", "2025-10-09T08:53:20.000Z", 0],
      ],
    );
  });

  test("a trace is copied and downloaded as OTLP JSON", async (t) => {
    const page = await open(`${await serve(t, done)}/#trace=${otherTraceId}`);
    await page.until(() => page.all("[role=treeitem]").length > 0);
    const isExport = (text: string) => {
      const { resourceSpans } = JSON.parse(text);
      const [span] = resourceSpans[0].scopeSpans[0].spans;
      assert.deepEqual([span.traceId, span.name, span.endTimeUnixNano], [otherTraceId, "root", "2"]);
    };
    page.clickButton("Copy as OTLP JSON");
    await page.until(() => page.hasButton("Copied"));
    isExport(await page.window.navigator.clipboard.readText());

    const saved: { readonly name: string; readonly blob: ReturnType<typeof resolveObjectURL> }[] = [];
    page.window.HTMLAnchorElement.prototype.click = function (this: HTMLAnchorElement) {
      saved.push({ name: this.download, blob: resolveObjectURL(this.href) });
    };
    page.clickButton("Download OTLP JSON");
    const [file] = saved;
    assert.deepEqual([file?.name, file?.blob?.type], [`trace-${otherTraceId}.json`, "application/json"]);
    isExport((await file?.blob?.text()) ?? "");
  });

  test("a page without a clipboard copies by a selection, and says so where that is not allowed", async (t) => {
    const page = await open(`${await serve(t, done)}/#trace=${otherTraceId}`);
    await page.until(() => page.all("[role=treeitem]").length > 0);
    Object.defineProperty(page.window.navigator, "clipboard", { value: undefined });
    const copied: unknown[] = [];
    let allowed = true;
    const execCommand = (command: string) => {
      copied.push([command, Reflect.get(page.window.document.activeElement ?? {}, "value")]);
      return allowed;
    };
    Object.assign(page.window.document, { execCommand });
    page.clickButton("Copy id");
    await page.until(() => page.hasButton("Copied"));
    assert.deepEqual(copied, [["copy", otherTraceId]]);
    assert.deepEqual(page.all("body > textarea"), []);
    allowed = false;
    page.clickButton("Copy as OTLP JSON");
    await page.until(() => page.hasButton("Not allowed here"));
  });

  test("a link to a trace opens it", async (t) => {
    const page = await open(`${await serve(t, done)}/#trace=${otherTraceId}`);
    await page.until(() => page.all("[role=treeitem]").length > 0);
    assert.equal(page.find(".trace-id").textContent, otherTraceId);
  });

  const openJobs = async (t: TestContext, jobs: JobsOfPipeline): Promise<OpenPage> => {
    const page = await open(await serve(t, done, jobs));
    await page.until(() => page.all(".jobs").length > 0);
    page.find(".jobs").setAttribute("open", "");
    page.find(".jobs").dispatchEvent(new page.window.Event("toggle"));
    return page;
  };
  const forbidden = () => {
    throw new ConnectError("jobs can be listed by named callers only", Code.PermissionDenied);
  };

  test("jobs that may not be listed are explained, and one that is submitted is shown", async (t) => {
    const page = await openJobs(t, { listJobs: forbidden, createJob: () => ({ job: madeJob(1) }) });
    await page.until(() => page.all(".jobs .problem").length > 0);
    assert.match(
      page.find(".jobs .problem").textContent,
      /^The jobs are not open to this caller\. .* jobs can be listed by named callers only$/,
    );
    page.type("prompt", "a red heart");
    page.clickButton("Submit as job");
    await page.until(() => page.all(".job").length > 0);
    assert.equal(page.find(".job .caption").textContent, "job 1");
  });

  test("a pipeline that turns out to have no jobs is explained", async (t) => {
    const page = await openJobs(t, {});
    await page.until(() => page.all(".jobs .problem").length > 0);
    assert.match(page.find(".jobs .problem").textContent, /^This pipeline has no jobs\. Start it with --jobs,/);
  });

  test("a job that the service rejects is not made, and its wrong fields are marked", async (t) => {
    let calls = 0;
    const url = await serve(t, done, {
      createJob() {
        calls++;
        throw invalidFields([{ path: "generate.options.width", message: "a multiple of 8" }]);
      },
    });
    const page = await open(url);
    await page.until(() => page.hasButton("Submit as job"));
    page.clickButton("Submit as job");
    await page.until(() => page.all("#prompt-wrong").length > 0);
    assert.equal(calls, 0, "the page's own check comes first");
    page.type("prompt", "a red heart");
    page.clickButton("Submit as job");
    await page.until(() => page.all("#width-wrong").length > 0);
    assert.equal(page.find("#width-wrong").textContent, "A multiple of 8.");
    assert.match(page.find(".actions [role=alert]").textContent, /^The service does not take this request\./);
  });
});
