import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { localCertificate } from "../../src/cli/services/local-certificate.js";
import { createFalFront } from "../../src/fronts/fal/front.js";
import { reloadTlsMaterial } from "../../src/mesh/tls/tls-material.js";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { ToolMissingError } from "../interop/support/part.js";
import { createHeldEngine } from "../support/held-engine.js";
import { type JobMeshOptions, jobApp, startJobMesh } from "../support/job-mesh.js";
import { startOtlpReceiver } from "../support/otlp-receiver.js";
import { spanTree } from "../support/span-tree.js";
import { installJavaScriptClients, type PythonRelease, runNode, runPython } from "./programs.js";

/**
 * fal's API with the clients that people have: `fal-client` for Python in two releases, `@fal-ai/client` and `@ai-sdk/fal`. Needs the npm and
 * PyPI registries at its first run; the tests with Python are skipped where there is none.
 */
const example = fileURLToPath(new URL("../../examples/fal/image_pipeline.py", import.meta.url));

await installJavaScriptClients();

/** A mesh with fal's API, TLS and cleartext on its pipeline's port, and a foreign OTLP receiver. */
async function startMesh(t: TestContext, engine?: NonNullable<JobMeshOptions["engines"]>[number]) {
  const receiver = await startOtlpReceiver({ protocol: "http/protobuf" });
  const certificate = await localCertificate(join(await temporaryFolder(), "tls"));
  const material = reloadTlsMaterial(certificate, { onRejected: (error) => assert.fail(String(error)) });
  const mesh = await startJobMesh({
    ...(engine && { engines: [engine] }),
    pipeline: { fronts: [createFalFront()] },
    serve: { tls: { material, isOptional: true } },
    otlp: receiver.endpoint,
  });
  t.after(async () => {
    await mesh.stop();
    material.close();
    await receiver.stop();
  });
  const host = `localhost:${new URL(mesh.url).port}`;
  return {
    url: mesh.url,
    receiver,
    /** The variables that `dev` prints. */
    variables: {
      FAL_QUEUE_RUN_HOST: host,
      FAL_RUN_HOST: `${host}/fal/run`,
      SSL_CERT_FILE: certificate.cert,
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
      WORKER_APP: jobApp,
    },
  };
}

type Mesh = Awaited<ReturnType<typeof startMesh>>;

/** Lines before a program that point the client at a mesh: none for the newest. */
const preambles: Readonly<Record<PythonRelease, (mesh: Mesh) => string>> = {
  "1.0.3": () => "",
  "0.5.9": ({ url }) => `
import fal_client.client
fal_client.client.QUEUE_URL_FORMAT = "${url}/"
fal_client.client.RUN_URL_FORMAT = "${url}/fal/run/"
`,
};

/** Runs a Python program, or skips the test where there is no Python. */
async function python(t: TestContext, release: PythonRelease, mesh: Mesh, code: string) {
  try {
    return await runPython(release, `${preambles[release](mesh)}\n${code}`, mesh.variables);
  } catch (error) {
    if (error instanceof ToolMissingError) {
      t.skip(error.message);
      return undefined;
    }
    throw error;
  }
}

/** The documented trace, with the first three spans Python's. */
const tree = `image-pipeline SERVER
  call-inference-worker CLIENT
  inference SERVER
    diffusion INTERNAL
    upload INTERNAL
  preprocess-prompt INTERNAL
send PRODUCER → image-pipeline
  process CONSUMER → send`;

/** Without the span of the worker's start. */
const ofRequests = (spans: readonly SpanRecord[]) => spans.filter(({ name }) => name !== "warmup");

for (const release of ["1.0.3", "0.5.9"] as const) {
  suite(`fal-client ${release} for Python`, () => {
    test("the original's own call: Python's spans and the worker's are one tree, the documented one", async (t) => {
      const mesh = await startMesh(t);
      const out = await python(t, release, mesh, `import runpy\nrunpy.run_path("${example}", run_name="__main__")`);
      if (out === undefined) {
        return;
      }
      const [imageUrl = "", trace = ""] = out;
      const traceId = trace.replace("trace ", "");
      const image = await fetch(imageUrl.replace("https://localhost", "http://127.0.0.1"));
      assert.equal(image.headers.get("content-type"), "image/png");
      const spans = ofRequests(await mesh.receiver.waitFor((all) => ofRequests(all).length === 8));
      assert.equal(spanTree(spans), tree);
      assert.deepEqual(
        spans
          .filter((span) => span.traceId === traceId)
          .map(({ name, resource }) => `${name} ${resource["telemetry.sdk.language"]} ${resource["service.name"]}`)
          .sort(),
        [
          "call-inference-worker python image-pipeline",
          "diffusion nodejs text-to-image-worker",
          "image-pipeline python image-pipeline",
          "inference nodejs text-to-image-worker",
          "preprocess-prompt python image-pipeline",
          "upload nodejs text-to-image-worker",
        ],
      );
    });

    test("the app image-pipeline answers image and trace_id, a run the output itself, and a stream its progress", async (t) => {
      const mesh = await startMesh(t);
      const out = await python(
        t,
        release,
        mesh,
        `
import fal_client, json
print(json.dumps(fal_client.subscribe("me/image-pipeline", {"prompt": "a heart", "worker_app": "${jobApp}"})))
print(json.dumps(fal_client.run("${jobApp}", {"prompt": "a heart", "num_images": 2, "seed": 7, "num_inference_steps": 2})))
events = list(fal_client.stream("${jobApp}", {"prompt": "a heart", "num_inference_steps": 2}))
print(json.dumps([max(event.get("progress", {}).get("step", 0) for event in events), len(events[-1]["images"])]))
`,
      );
      if (out === undefined) {
        return;
      }
      const [pipeline, images, streamed] = out.map((line) => JSON.parse(line));
      assert.deepEqual(Object.keys(pipeline), ["image", "trace_id"]);
      assert.match(pipeline.trace_id, /^[0-9a-f]{32}$/);
      assert.deepEqual([images.images.length, images.seed], [2, 7]);
      assert.deepEqual(streamed, [2, 1]);
    });

    test("a queue position, a cancel that frees the engine, and progress", async (t) => {
      const held = createHeldEngine(2);
      const mesh = await startMesh(t, held.engine);
      const out = await python(
        t,
        release,
        mesh,
        `
import fal_client, time
def wait(handle, kind):
    while True:
        status = handle.status(with_logs=True)
        if isinstance(status, kind):
            return status
        time.sleep(0.05)
first = fal_client.submit("${jobApp}", {"prompt": "a heart", "trace_context": {}})
wait(first, fal_client.InProgress)
second = fal_client.submit("${jobApp}", {"prompt": "a heart"})
third = fal_client.submit("${jobApp}", {"prompt": "a heart"})
print(second.status().position, third.status().position)
first.cancel()
wait(first, fal_client.Completed)
wait(second, fal_client.InProgress)
while third.status().position > 0:
    time.sleep(0.05)
print(third.status().position)
third.cancel()
second.cancel()
for handle in [second, third]:
    wait(handle, fal_client.Completed)
try:
    fal_client.cancel("${jobApp}", first.request_id)
except Exception as error:
    print("late", type(error).__name__)
`,
      );
      if (out === undefined) {
        return;
      }
      const failure = release === "1.0.3" ? "FalClientHTTPError" : "FalClientError";
      assert.deepEqual(out, ["0 1", "0", `late ${failure}`]);
      // No step after the one that each cancelled generation stood before.
      assert.equal(held.engine.stepsRun, 2);
    });
  });
}

suite("fal-client 1.0.3 for Python: errors", () => {
  test("wrong input, an unknown app and request, and a failed request", async (t) => {
    const held = createHeldEngine(1);
    const mesh = await startMesh(t, held.engine);
    void held.reached.then(() => held.fail(new Error("broken")));
    const out = await python(
      t,
      "1.0.3",
      mesh,
      `
import fal_client
def attempt(run):
    try:
        print("ok", run())
    except fal_client.FalClientHTTPError as error:
        detail = error.message if isinstance(error.message, str) else [".".join(each["loc"]) for each in error.message]
        print(error.status_code, error.error_type, detail)
app = "${jobApp}"
attempt(lambda: fal_client.submit(app, {"prompt": "a heart", "num_images": 2}))
attempt(lambda: fal_client.submit(app, {"image_size": {"width": 65, "height": 64}, "prompt": ""}))
attempt(lambda: fal_client.submit("nobody/nothing", {"prompt": "a heart"}))
attempt(lambda: fal_client.status(app, "0" * 32))
attempt(lambda: fal_client.submit(app, {"prompt": "a heart"}, webhook_url="https://hooks.example/"))
def failed():
    handle = fal_client.submit(app, {"prompt": "a heart"})
    last = list(handle.iter_events())[-1]
    print(type(last).__name__, last.error, last.error_type)
    return handle.get()
attempt(failed)
`,
    );
    assert.deepEqual(
      out ?? [],
      out && [
        "422 None ['body.num_images']",
        "422 None ['body.prompt', 'body.image_size.width']",
        `404 not_found no such app; the apps are ${jobApp}`,
        "404 not_found no such request of this caller: it was deleted or has expired, or the id is wrong",
        "422 None ['query.fal_webhook']",
        "Completed internal error internal_error",
        "500 internal_error internal error",
      ],
    );
  });
});

const throughProxy = ({ url }: Mesh) => `
import { fal } from "@fal-ai/client";
fal.config({ credentials: "any:key", proxyUrl: { url: "${url}/fal/proxy", when: "always" } });
const app = "${jobApp}";
`;

suite("@fal-ai/client", () => {
  test("subscribe by polls and by a stream, run and stream", async (t) => {
    const mesh = await startMesh(t);
    const out = await runNode(`${throughProxy(mesh)}
      const input = { prompt: "a heart", num_inference_steps: 4, seed: 7 };
      for (const mode of ["polling", "streaming"]) {
        const states = new Set();
        const { data, requestId } = await fal.subscribe(app, {
          input,
          mode,
          pollInterval: 20,
          logs: true,
          onQueueUpdate: ({ status }) => states.add(status),
        });
        console.log(mode, data.images.length, data.seed, /^[0-9a-f]{32}$/.test(requestId), [...states].at(-1));
      }
      const ran = await fal.run(app, { input: { ...input, num_images: 2 } });
      console.log("run", ran.data.images.length);
      const stream = await fal.stream(app, { input });
      let steps = 0;
      for await (const { progress } of stream) steps = Math.max(steps, progress?.step ?? 0);
      console.log("stream", steps, (await stream.done()).images.length);
    `);
    assert.deepEqual(out, ["polling 1 7 true COMPLETED", "streaming 1 7 true COMPLETED", "run 2", "stream 4 1"]);
  });

  test("a cancel frees the engine, a late one and wrong input are its own errors", async (t) => {
    const held = createHeldEngine(2);
    const mesh = await startMesh(t, held.engine);
    const out = await runNode(`${throughProxy(mesh)}
      const until = async (requestId, wanted) => {
        for (;;) {
          const status = await fal.queue.status(app, { requestId });
          if (status.status === wanted) return status;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      };
      const first = await fal.queue.submit(app, { input: { prompt: "a heart" } });
      await until(first.request_id, "IN_PROGRESS");
      const second = await fal.queue.submit(app, { input: { prompt: "a heart" }, priority: "low" });
      console.log((await fal.queue.status(app, { requestId: second.request_id })).queue_position);
      await fal.queue.cancel(app, { requestId: first.request_id });
      console.log((await until(first.request_id, "COMPLETED")).error_type);
      await until(second.request_id, "IN_PROGRESS");
      await fal.queue.cancel(app, { requestId: second.request_id });
      const attempt = (run) => run.catch((error) => console.log(error.name, error.status, JSON.stringify(error.fieldErrors?.[0]?.loc ?? error.message)));
      await attempt(fal.queue.cancel(app, { requestId: first.request_id }));
      await attempt(fal.queue.result(app, { requestId: first.request_id }));
      await attempt(fal.queue.submit(app, { input: { prompt: "a heart", num_images: 3 } }));
      await attempt(fal.run("nobody/nothing", { input: { prompt: "a heart" } }));
    `);
    assert.deepEqual(out, [
      "0",
      "client_cancelled",
      'ApiError 400 "Bad Request"',
      'ApiError 499 "the request was cancelled"',
      'ValidationError 422 ["body","num_images"]',
      `ApiError 404 "no such app; the apps are ${jobApp}"`,
    ]);
    assert.equal(held.engine.stepsRun, 2);
  });
});

suite("@ai-sdk/fal", () => {
  test("createFal generates an image, and from an image, and shows what is wrong", async (t) => {
    const mesh = await startMesh(t);
    const out = await runNode(`
      import { createFal } from "@ai-sdk/fal";
      import { generateImage } from "ai";
      const fal = createFal({ baseURL: "${mesh.url}/fal/run", apiKey: "any" });
      const model = fal.image("${jobApp}");
      const { images, providerMetadata } = await generateImage({ model, prompt: "a heart", size: "128x64" });
      console.log(images[0].mediaType, providerMetadata.fal.images[0].width);
      const edited = await generateImage({
        model,
        prompt: { text: "a heart", images: [images[0].uint8Array] },
        providerOptions: { fal: { strength: 0.5 } },
      });
      console.log(edited.images.length);
      for (const wrong of [{ model, size: "4096x64" }, { model: fal.image("nobody/nothing") }]) {
        await generateImage({ prompt: "a heart", maxRetries: 0, ...wrong }).catch((error) => console.log(error.message));
      }
    `);
    assert.deepEqual(out.slice(0, 2), ["image/png 128", "1"]);
    assert.match(out[2] ?? "", /^body\.image_size\.width: must be from 64 to 2048$/);
    assert.equal(out[3], `no such app; the apps are ${jobApp}`);
  });
});
