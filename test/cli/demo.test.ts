import assert from "node:assert/strict";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import type { SpanJson } from "../../src/studio/trace-tree.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { steadyPort } from "../support/steady-port.js";
import { emptyUser } from "./support/empty-user.js";
import { runCommand, startCommand } from "./support/run-command.js";

// Two at a time: most of it is waiting for processes to load.
suite("throughline demo", { concurrency: 2 }, async () => {
  const folder = await temporaryFolder();
  const model = join(folder, "quick");
  const slowModel = join(folder, "slow");
  before(async () => {
    await makeSdxlFolder(model);
    await makeSdxlFolder(slowModel, { unetWork: 20 });
  });
  const emptyFolder = async (name: string) => {
    const made = join(folder, name);
    await mkdir(made);
    return made;
  };

  test("demo prints the image and all six spans as JSON, whatever variables the shell has", async (t) => {
    const out = join(await emptyFolder("json"), "heart.png");
    const dead = `http://127.0.0.1:${await steadyPort()}`;
    const args = ["demo", " a red\theart ", "--model", model, "--steps", "2", "--seed", "7", "--out", out, "--json"];
    const { code, stdout, stderr } = await runCommand(t, args, {
      ENABLE_TRACING: "false",
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9",
      OTEL_TRACES_SAMPLER: "always_off",
      OTEL_SAMPLE_RATE: "0",
      OTEL_LOGS_EXPORTER: "nonsense",
      OTEL_RESOURCE_ATTRIBUTES: "=,broken,%zz=%",
      OTEL_SERVICE_NAME: "mine",
      THROUGHLINE_WORKER_PORT: "1",
      // Its own services are reached without a proxy.
      http_proxy: dead,
      https_proxy: dead,
      grpc_proxy: dead,
      HTTP_PROXY: dead,
      HTTPS_PROXY: dead,
      no_grpc_proxy: "x.test",
    });
    assert.match(stderr, /^throughline: OTEL_RESOURCE_ATTRIBUTES is ignored: .*\n$/);
    assert.equal(code, 0);
    const result = JSON.parse(stdout);
    const bytes = await readFile(out);
    assert.match(result.traceId, /^[0-9a-f]{32}$/);
    assert.equal(result.seed, 7);
    assert.deepEqual(result.image, {
      path: out,
      width: 64,
      height: 64,
      contentType: "image/png",
      fileSize: bytes.length,
    });
    assert.equal(bytes.subarray(1, 4).toString("latin1"), "PNG");

    const names = new Map<string, string>([["", "-"]]);
    for (const span of result.spans) {
      names.set(span.spanId, span.name);
    }
    const lines = result.spans.map(({ name, service, kind, parentSpanId }: SpanJson) =>
      [name, service, kind, names.get(parentSpanId)].join(" "),
    );
    assert.deepEqual(lines.sort(), [
      "call-inference-worker image-pipeline CLIENT image-pipeline",
      "diffusion text-to-image-worker INTERNAL inference",
      "image-pipeline image-pipeline SERVER -",
      "inference text-to-image-worker SERVER image-pipeline",
      "preprocess-prompt image-pipeline INTERNAL image-pipeline",
      "upload text-to-image-worker INTERNAL inference",
    ]);
    const attributesOf = (name: string) => result.spans.find((span: { name: string }) => span.name === name).attributes;
    assert.equal(attributesOf("preprocess-prompt")["prompt.length"], 13);
    assert.equal(attributesOf("inference")["prompt.length"], 11);
    assert.equal(attributesOf("diffusion")["diffusion.steps"], 2);
    assert.equal(attributesOf("upload")["image.file_size"], bytes.length);
    for (const span of result.spans) {
      assert.deepEqual(Object.keys(span).sort(), [
        "attributes",
        "durationMs",
        "kind",
        "name",
        "parentSpanId",
        "service",
        "spanId",
      ]);
      assert.ok(span.durationMs >= 0);
    }
  });

  test("demo shows the image file and the trace tree on a terminal and leaves no process, and no file of its user", async (t) => {
    const out = join(await emptyFolder("tree"), "heart.png");
    const user = await emptyUser();
    const args = ["demo", "--model", model, "--steps", "1", "--seed", "5", "--out", out];
    const demo = startCommand(t, args, user.environment);
    assert.deepEqual(await demo.ended, { code: 0, signal: null });
    assert.deepEqual(demo.living(), []);
    assert.deepEqual(await user.files(), []);
    const shown = demo.stdout.replaceAll(/ +[\d.]+ m?s\b.*$/gm, " TIME").replaceAll(/[0-9a-f]{32}/g, "ID");
    assert.equal(
      shown,
      `${out}  64×64 image/png, 2 KiB, seed 5

trace ID
image-pipeline             image-pipeline TIME
├── preprocess-prompt      image-pipeline TIME
├── call-inference-worker  image-pipeline TIME
└── inference              text-to-image-worker TIME
    ├── diffusion          text-to-image-worker TIME
    └── upload             text-to-image-worker TIME
`,
    );
    assert.match(demo.stderr, /^starting the services\n.*denoising\n/s);
  });

  test("demo exits with 130 at Ctrl-C during a generation and leaves no process or file", async (t) => {
    const made = await emptyFolder("interrupted");
    const demo = startCommand(t, ["demo", "--model", slowModel, "--steps", "150", "--out", join(made, "heart.png")]);
    await demo.waitFor(/denoising/);
    demo.killGroup("SIGINT");
    assert.deepEqual(await demo.ended, { code: 130, signal: null });
    assert.deepEqual(demo.living(), []);
    assert.deepEqual(await readdir(made), []);
    assert.doesNotMatch(demo.stderr, /throughline:|Error|\n\s+at /);
  });

  test("demo exits with 143 at SIGTERM during its start and leaves no process", async (t) => {
    const demo = startCommand(t, ["demo", "--model", model, "--out", join(folder, "never.png")]);
    await demo.waitFor(/starting the services/);
    demo.kill("SIGTERM");
    assert.deepEqual(await demo.ended, { code: 143, signal: null });
    assert.deepEqual(demo.living(), []);
  });

  test("demo killed by SIGKILL leaves no process", async (t) => {
    const made = await emptyFolder("killed");
    const demo = startCommand(t, ["demo", "--model", slowModel, "--steps", "150", "--out", join(made, "heart.png")]);
    await demo.waitFor(/denoising/);
    assert.equal(demo.living().length, 5);
    demo.kill("SIGKILL");
    assert.deepEqual(await demo.ended, { code: null, signal: "SIGKILL" });
    await demo.gone();
    assert.deepEqual(await readdir(made), []);
  });

  test("demo reports an invalid model folder and leaves no process", async (t) => {
    const empty = await emptyFolder("no model");
    const demo = startCommand(t, ["demo", "--model", empty, "--json", "--out", join(empty, "heart.png")]);
    assert.deepEqual(await demo.ended, { code: 1, signal: null });
    assert.deepEqual(demo.living(), []);
    assert.equal(demo.stdout, "");
    assert.match(demo.stderr, /^throughline: .* model folder .*no model: model_index\.json: .*\n$/);
  });

  test("demo reports a missing output folder before it starts", async (t) => {
    const { code, stderr } = await runCommand(t, ["demo", "--out", join(folder, "none", "heart.png")]);
    assert.equal(code, 1);
    assert.match(stderr, /^throughline: cannot write .*heart\.png: its folder does not exist\n$/);
  });
});
