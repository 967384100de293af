import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import sharp from "sharp";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { startCommand } from "../cli/support/run-command.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { replaceFile } from "../support/certificates.js";
import { startOtlpReceiver } from "../support/otlp-receiver.js";
import { exampleProgram, loaderArguments } from "../support/test-program.js";
import { dumpUpscaled, upscaledTrace } from "./upscaled-trace.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readyAt = /^\S+ is ready at http:\/\/127\.0\.0\.1:(\d+)$/m;

/** Starts the example as its README does. */
const startFromCheckout = (t: TestContext, environment: Readonly<Record<string, string>>) =>
  startNode(t, ["--conditions=throughline-source", "--import", "tsx", "examples/upscaler/src/main.ts"], environment);

const startUpscaler = (t: TestContext, environment: Readonly<Record<string, string>>) =>
  startNode(t, [...loaderArguments, exampleProgram("examples/upscaler/src/main")], environment);

function startNode(t: TestContext, args: readonly string[], environment: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, args, {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], ...environment },
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    output += chunk;
    child.emit("output");
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    output += chunk;
  });
  const ended = once(child, "close").then(([code]: unknown[]) => ({ code, output }));
  return {
    child,
    ended,
    async port(): Promise<string> {
      for (;;) {
        const found = readyAt.exec(output)?.[1];
        if (found !== undefined) {
          return found;
        }
        await Promise.race([once(child, "output"), ended.then(() => Promise.reject(new Error(output)))]);
      }
    },
  };
}

/** A client that shares no code with ours. */
function foreignClient(t: TestContext, port: string): grpc.Client {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
  });
  t.after(() => client.close());
  return client;
}

const { "upscaler.v1.UpscalerService": service } = loadSync("upscaler/v1/upscaler.proto", {
  includeDirs: [join(root, "examples/upscaler/proto"), join(root, "third_party/proto")],
  keepCase: true,
});

interface Upscaled {
  readonly image: Buffer;
  readonly width: number;
  readonly trace_id: string;
}

function upscale(client: grpc.Client, request: object, metadata = new grpc.Metadata()): Promise<Upscaled> {
  assert.ok(service !== undefined && "Upscale" in service);
  const { path, requestSerialize, responseDeserialize } = service["Upscale"] as grpc.MethodDefinition<object, object>;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, (error, response) =>
      error === null && response !== undefined ? resolve(response as Upscaled) : reject(error),
    );
  });
}

const below = (dump: string) => dump.split("\n").map((line) => `  ${line}`);

/** The engine here is real; other tests cover it. */
const withoutEngine = (dump: string) => dump.replace(/^ *(?:model\.name|diffusion\.\w+)=.*\n/gm, "");

test("three apps as processes return the image to a gRPC client, and their spans form one trace below the client's", async (t) => {
  const model = join(await temporaryFolder(), "quick");
  await makeSdxlFolder(model);
  const collector = await startOtlpReceiver();
  t.after(() => collector.stop());
  const telemetry = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_BSP_SCHEDULE_DELAY: "50" };

  const worker = startCommand(t, ["worker", "--port", "0", "--model", model], telemetry);
  const [, workerPort] = await worker.waitFor(readyAt);
  const workerTarget = `local/text-to-image-worker=127.0.0.1:${workerPort}`;
  const flags = ["--port", "0", "--worker", workerTarget, "--trust-traceparent"];
  const pipeline = startCommand(t, ["pipeline", ...flags], telemetry);
  const [, pipelinePort] = await pipeline.waitFor(readyAt);
  const upscaler = startFromCheckout(t, {
    ...telemetry,
    THROUGHLINE_PORT: "0",
    THROUGHLINE_APPS: `local/image-pipeline=127.0.0.1:${pipelinePort}`,
  });
  const client = foreignClient(t, await upscaler.port());

  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const response = await upscale(client, {
    prompt: "a red heart",
    factor: 2,
    trace_context: { traceparent: `00-${traceId}-b7ad6b7169203331-01` },
  });
  assert.equal(response.trace_id, traceId);
  assert.equal((await sharp(response.image).metadata()).width, response.width);
  const ours = (spans: readonly { traceId: string }[]) => spans.filter((span) => span.traceId === traceId);
  const spans = await collector.waitFor((all) => ours(all).length >= 9);
  const dump = dumpUpscaled(spans.filter((span) => span.traceId === traceId));
  assert.equal(withoutEngine(dump), withoutEngine(["(remote parent)", ...below(upscaledTrace("port"))].join("\n")));

  await assert.rejects(upscale(client, { image: Buffer.from("no image"), factor: 2 }), {
    code: grpc.status.INVALID_ARGUMENT,
  });
  upscaler.child.kill("SIGTERM");
  const { code, output } = await upscaler.ended;
  assert.equal(code, 0, output);
  assert.doesNotMatch(output, /red heart/);
});

test("upscaler accepts a caller only when its apps include the upscaler's id", async (t) => {
  const keys = { upscaler: createCallerKey(), other: createCallerKey() };
  const callers = await replaceFile(
    join(await temporaryFolder(), "callers.json"),
    JSON.stringify({
      callers: [
        { name: "own", keys: [hashCallerKey(keys.upscaler)], apps: ["local/upscaler"] },
        { name: "other", keys: [hashCallerKey(keys.other)], apps: ["local/image-pipeline", "acme/*"] },
      ],
    }),
  );
  const upscaler = startUpscaler(t, { THROUGHLINE_PORT: "0", THROUGHLINE_CALLERS: callers });
  const client = foreignClient(t, await upscaler.port());
  const upscaleAs = (key: string) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${key}`);
    return upscale(client, { image: Buffer.from("no image"), factor: 2 }, metadata);
  };
  await assert.rejects(upscaleAs(keys.other), { code: grpc.status.PERMISSION_DENIED });
  // Accepted, and rejected for an invalid image.
  await assert.rejects(upscaleAs(keys.upscaler), { code: grpc.status.INVALID_ARGUMENT });
});

test("app id that is not owner/name is rejected at start", async (t) => {
  const program = `
    import { runApp } from "throughline/run";
    await runApp({ name: "worker", app: "worker", port: 0, create() { throw new Error("it was made"); } });`;
  const rejected = await startNode(t, [...loaderArguments, "--input-type=module", "--eval", program], {}).ended;
  assert.deepEqual(rejected, { code: 1, output: `worker: app id "worker" is not of the form owner/name\n` });
});

test("invalid variable exits with 2 and a port in use with 1, each with one line", async (t) => {
  const wrong = await startUpscaler(t, { THROUGHLINE_APPS: "nonsense" }).ended;
  assert.deepEqual(wrong.code, 2);
  assert.match(wrong.output, /^upscaler: THROUGHLINE_APPS must be of the form owner\/name=host:port.*\n$/);
  const first = startUpscaler(t, { THROUGHLINE_PORT: "0", THROUGHLINE_LOG_LEVEL: "silent" });
  const port = await first.port();
  const second = await startUpscaler(t, { THROUGHLINE_PORT: port, THROUGHLINE_LOG_LEVEL: "silent" }).ended;
  assert.deepEqual(second, {
    code: 1,
    output: `upscaler: upscaler cannot start: 127.0.0.1:${port} is in use. Is another \`throughline dev\` running? THROUGHLINE_PORT takes another port, 0 a free one\n`,
  });
});
