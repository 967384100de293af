import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { suite, type TestContext, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { CliError } from "../../src/cli/errors.js";
import { runProgram } from "../../src/cli/program.js";
import { createPipelineClient } from "../../src/client/client.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { reloadCallersFile } from "../../src/mesh/access/callers-file.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { reloadAppsFile } from "../../src/mesh/directory/apps-file.js";
import { listen } from "../../src/mesh/port/listen.js";
import { respondPlain } from "../../src/mesh/port/node-handler.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createPipelineApp, pipelineName } from "../../src/pipeline/pipeline-app.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createWorkerApp, type ManagedEngine, workerName } from "../../src/worker/worker-app.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";
import { createHeldEngine } from "../support/held-engine.js";
import { openStockTransport } from "../support/stock-transport.js";
import { testTelemetry } from "../support/telemetry.js";
import { serveWorkerOfVersion1 } from "../support/worker-of-version-1.js";

const logger = pino({ level: "silent" });

async function startWorker(t: TestContext, engine: ManagedEngine): Promise<string> {
  const telemetry = testTelemetry(t, workerName);
  const worker = await createWorkerApp({ startEngine: async () => engine, telemetry, logger }).serve({ port: 0 });
  t.after(() => worker.stop({ graceMs: 0 }));
  return `127.0.0.1:${worker.port}`;
}

/** Two apps, the first with two workers, the second with one that rejects. */
async function startApps(t: TestContext) {
  const held = createHeldEngine();
  const away = createFakeEngine();
  const addresses = [
    await startWorker(t, held.engine),
    await startWorker(t, createFakeEngine()),
    await startWorker(t, away),
  ] as const;
  away.setAvailable(false);
  const [busy, idle, rejecting] = addresses;
  const apps = {
    "a/first": { target: `ipv4:${busy},${idle}`, policies: { loadBalancing: "pick_first" as const } },
    "a/second": { target: rejecting },
  };
  return { held, addresses, apps };
}

async function list(...args: readonly string[]): Promise<string> {
  const stdout = new PassThrough({ encoding: "utf8" });
  const stderr = new PassThrough({ encoding: "utf8" });
  const interrupt = new AbortController().signal;
  const context = { environment: {}, stdout, stderr, interrupt, supervisor: undefined };
  assert.equal(await runProgram(["apps", ...args], context), 0, String(stderr.read()));
  return String(stdout.read());
}

/** The fake engine's model, as the RPCs have it in JSON. */
const fakeModel = (appId: string) => ({
  worker_app: appId,
  name: "fake",
  defaults: {
    delivery: "DELIVERY_UNSPECIFIED",
    format: "IMAGE_FORMAT_UNSPECIFIED",
    guidance_scale: 5,
    height: 64,
    loras: [],
    num_inference_steps: 4,
    scheduler: "SCHEDULER_EULER_DISCRETE",
    width: 64,
  },
  min_size: 64,
  max_size: 2048,
  size_multiple: 8,
  schedulers: [
    "SCHEDULER_EULER_DISCRETE",
    "SCHEDULER_EULER_ANCESTRAL",
    "SCHEDULER_DPMPP_2M",
    "SCHEDULER_DPMPP_2M_KARRAS",
    "SCHEDULER_DDIM",
    "SCHEDULER_LCM",
    "SCHEDULER_UNIPC",
    "SCHEDULER_DPMPP_2M_SDE",
    "SCHEDULER_DPMPP_2M_SDE_KARRAS",
  ],
  loras: [],
  image_to_image: true,
  max_num_inference_steps: 150,
  defaults_reason: "",
  example_prompts: ["a red heart"],
});

suite("throughline apps", async () => {
  const folder = await temporaryFolder();

  test("apps checks the health of the workers in an apps file", async (t) => {
    const { apps, addresses } = await startApps(t);
    const [busy, idle, rejecting] = addresses;
    const file = await replaceFile(join(folder, "apps.json"), JSON.stringify({ default: "a/first", apps }));
    const lines = (await list("--apps", file)).replaceAll(/ {2,}/g, "  ").trimEnd().split("\n");
    assert.deepEqual(lines, [
      "APP  MODEL  WORKER  HEALTH",
      `a/first (default)  fake  ${busy}  serving`,
      `a/first (default)  fake  ${idle}  serving`,
      `a/second  ?  ${rejecting}  draining or not ready`,
    ]);
    assert.deepEqual(JSON.parse(await list("--worker", `a/second=${rejecting}`, "--json")), {
      apps: [
        {
          appId: "a/second",
          target: rejecting,
          isDefault: true,
          workers: [{ address: rejecting, health: "not-serving" }],
          model: null,
        },
      ],
    });
  });

  test("apps shows a running pipeline's call statistics to a caller that may use the apps", async (t) => {
    const { apps, addresses, held } = await startApps(t);
    const [busy, idle, rejecting] = addresses;
    const keys = { all: createCallerKey(), second: createCallerKey() };
    const callersFile = await replaceFile(
      join(folder, "callers.json"),
      JSON.stringify({
        callers: [
          { name: "all", keys: [hashCallerKey(keys.all)], apps: ["*"] },
          { name: "second", keys: [hashCallerKey(keys.second)], apps: ["a/second"] },
        ],
      }),
    );
    const callers = reloadCallersFile(callersFile, { onRejected() {} });
    const telemetry = testTelemetry(t, pipelineName);
    const directory = createAppDirectory({ apps, defaultApp: "a/first" });
    const pipeline = await createPipelineApp({ directory, showApps: true, telemetry, logger }).serve({
      port: 0,
      callers,
    });
    t.after(async () => {
      callers.close();
      await pipeline.stop({ graceMs: 0 });
    });
    const keyFile = (name: keyof typeof keys) => replaceFile(join(folder, `${name}.txt`), keys[name]);
    const ask = async (name: keyof typeof keys, ...args: readonly string[]) =>
      list("--pipeline", pipeline.url, "--key-file", await keyFile(name), ...args);

    const generation = createPipelineClient({ baseUrl: pipeline.url }).generate(
      { prompt: "a heart" },
      { headers: { authorization: `Bearer ${keys.all}` } },
    );
    await held.reached;
    const { apps: listed } = JSON.parse(await ask("all", "--json"));
    const figures = { others: 0, serviceMs: null, expectedWaitMs: null, rejectsForMs: 0, ejected: false };
    assert.deepEqual(listed, [
      {
        appId: "a/first",
        target: `ipv4:${busy},${idle}`,
        isDefault: true,
        workers: [
          { address: busy, health: "serving", inFlight: 1, ...figures },
          { address: idle, health: "serving", inFlight: 0, ...figures },
        ],
        model: fakeModel("a/first"),
      },
      {
        appId: "a/second",
        target: rejecting,
        isDefault: false,
        workers: [{ address: rejecting, health: "not-serving", inFlight: 0, ...figures }],
        model: null,
      },
    ]);
    held.release();
    await generation;
    const table = (await ask("all")).replaceAll(/ {2,}/g, "  ");
    assert.match(table, /^APP {2}MODEL {2}WORKER {2}HEALTH {2}IN FLIGHT {2}OF OTHERS {2}A CALL {2}WAIT\n/);
    assert.match(
      table,
      new RegExp(`^a/first \\(default\\)  fake  ${busy}  serving  0  0  \\d+\\.\\d s  0\\.0 s$`, "m"),
    );
    assert.match(await ask("second"), /^APP.*\na\/second .*\n$/);

    await assert.rejects(list("--pipeline", pipeline.url), (error) => {
      return error instanceof CliError && /it answered 401: authentication is required/.test(error.message);
    });
  });

  test("apps names the missing option of a pipeline that does not show its apps", async (t) => {
    const telemetry = testTelemetry(t, pipelineName);
    const directory = createAppDirectory({ apps: { "a/b": { target: "127.0.0.1:1" } } });
    const pipeline = await createPipelineApp({ directory, telemetry, logger }).serve({ port: 0 });
    t.after(() => pipeline.stop({ graceMs: 0 }));
    await assert.rejects(list("--pipeline", pipeline.url), /it does not list its apps; start it with --show-apps$/);
  });

  test("apps shows each app's whole model as the workers describe it, and none of a worker of an older version", async (t) => {
    const address = await startWorker(t, createFakeEngine());
    const { transport, close } = openStockTransport(Number(address.split(":")[1]));
    t.after(close);
    const old = await serveWorkerOfVersion1(t, createClient(TextToImageWorkerService, transport), () => {});
    const args = ["--worker", `a/new=${address},a/old=127.0.0.1:${old.port}`];
    const { apps } = JSON.parse(await list(...args, "--json"));
    assert.deepEqual(
      apps.map(({ appId, model }: { readonly appId: string; readonly model: unknown }) => [appId, model]),
      [
        ["a/new", fakeModel("a/new")],
        ["a/old", null],
      ],
    );
    assert.match(await list(...args), /^a\/old +\? +127\.0\.0\.1:\d+ +serving$/m);
  });

  test("apps lists the apps of a pipeline that has no ListModels", async (t) => {
    const app = { appId: "a/b", target: "h:1", isDefault: true, workers: [] };
    const older = await listen({
      port: 0,
      handler: (request, response) =>
        request.url === "/apps"
          ? respondPlain(response, 200, JSON.stringify({ apps: [app] }))
          : respondPlain(response, 404, "nothing here"),
    });
    t.after(() => older.stop({ graceMs: 0 }));
    assert.deepEqual(JSON.parse(await list("--pipeline", older.url, "--json")), { apps: [{ ...app, model: null }] });
    assert.match(await list("--pipeline", older.url), /^a\/b \(default\) +\? +h:1 +no address known$/m);
  });

  test("apps names the LoRAs of each app that has any, of many the first 20 and a count", async (t) => {
    const models = [
      { workerApp: "a/many", name: "sdxl", loras: Array.from({ length: 22 }, (_, index) => `lora-${index}`) },
      { workerApp: "a/some", name: "sdxl", loras: ["pixel", "ghi\u001bbli"] },
      { workerApp: "a/none", name: "sdxl" },
    ];
    const listed = models.map(({ workerApp: appId }) => ({ appId, target: "h:1", isDefault: false, workers: [] }));
    const { url, stop } = await listen({
      port: 0,
      handler: createConnectHandler({
        routes: ({ service }) => void service(ImagePipelineService, { listModels: () => ({ models }) }),
        fallback: (_request, response) => respondPlain(response, 200, JSON.stringify({ apps: listed })),
      }),
    });
    t.after(() => stop({ graceMs: 0 }));
    const [, loras = ""] = (await list("--pipeline", url)).split("\n\n");
    assert.match(loras, /^LoRAs of a\/many: lora-0, .*, lora-19 and 2 more\nLoRAs of a\/some: pixel, ghi\W+bli\n$/);
    assert.ok(!loras.includes("\u001b"));
    const { apps } = JSON.parse(await list("--pipeline", url, "--json"));
    assert.deepEqual(apps[1].model.loras, ["pixel", "ghi\u001bbli"]);
  });

  test("apps accepts one apps file and reports errors in it", async () => {
    const file = await replaceFile(join(folder, "wrong.yaml"), "apps: {a/b: {target: nowhere}}");
    await assert.rejects(list("--apps", file), /wrong\.yaml: target "nowhere" of app "a\/b" is not a gRPC target/);
    await assert.rejects(list("--apps", file, "--worker", "a/b=h:1"), /--apps excludes --worker and --default-app/);
  });
});

const page = readFileSync(new URL("../../docs/deployment.md", import.meta.url), "utf8");

test("documented apps file is valid", async (t) => {
  const example = /<!-- apps-file -->\s*```yaml\n([\s\S]*?)```/.exec(page)?.[1];
  assert.ok(example);
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const { cert, key } = await writeCertificate(folder, "issued", await authority.issue());
  await replaceFile(join(folder, "ca.pem"), authority.cert);
  await replaceFile(join(folder, "pipeline.pem"), readFileSync(cert, "utf8"));
  await replaceFile(join(folder, "pipeline.key"), readFileSync(key, "utf8"));
  await replaceFile(join(folder, "sdxl-key.txt"), "a-key");
  const file = await replaceFile(join(folder, "apps.yaml"), example);
  const directory = reloadAppsFile(file, { onRejected: (error) => assert.fail(String(error)) });
  t.after(directory.close);
  assert.equal(directory.lookUp("").appId, "local/text-to-image-worker");
  const { policies, security } = directory.lookUp("acme/sdxl");
  assert.deepEqual([policies.loadBalancing, policies.retry.maxAttempts], ["least_wait", 3]);
  assert.deepEqual([security?.tls?.ca, security?.tls?.serverName], [join(folder, "ca.pem"), "sdxl.internal"]);
});
