import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, connect } from "node:http2";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { ServingStatus } from "../../src/connect-health/health.js";
import { Health } from "../../src/gen/grpc/health/v1/health_pb.js";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { createEngineHost } from "../../src/worker/engine-host.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { openStockTransport } from "../support/stock-transport.js";
import { testProgram } from "../support/test-program.js";

const program = testProgram("../engine/child/gated-program", import.meta.url);
/** Each with a prompt of its own: the gate is set where a prompt is encoded, and one that was before is not. */
const long = (prompt: string) => ({ prompt, options: { seed: 1, numInferenceSteps: 100 } });

describe("call that ends early, through the pipeline to a real engine", async () => {
  const folder = await makeSdxlFolder(join(await temporaryFolder(), "model"));
  // The second UNet run of an image waits until a cancel has come into the engine's process.
  await writeFile(join(folder, "gate"), "");
  const engine = await createEngineHost({
    modelFolder: folder,
    program,
    logger: pino({ level: "silent" }),
    backOffMs: 1,
  });
  const mesh = await createTestMesh({ wire: "port", engine, maxWaiting: 1 });
  after(() => mesh.stop());
  await takeRuns();

  /** UNet runs that began since the last call. */
  async function takeRuns(): Promise<number> {
    const lines = (await readFile(join(folder, "unet-runs"), "utf8")).trim().split("\n");
    await rm(join(folder, "unet-runs"));
    return lines.length;
  }

  /** Generates with one UNet run, after whatever the engine is at, and counts the runs before it. */
  async function runsBefore(): Promise<number> {
    const { image } = await mesh.pipeline.generate({
      prompt: "b",
      options: { numInferenceSteps: 1, guidanceScale: 1 },
    });
    assert.ok(image);
    return (await takeRuns()) - 1;
  }

  const codeOf = (call: Promise<unknown>) =>
    call.then(
      () => "OK",
      (error: unknown) => Code[ConnectError.from(error).code],
    );

  it("engine runs no further UNet step when the client cancels", async () => {
    const controller = new AbortController();
    const call = async () => {
      for await (const { event } of mesh.pipeline.generateStream(
        { request: long("a cat") },
        { signal: controller.signal },
      )) {
        if (event.case === "progress" && event.value.step === 1) {
          controller.abort();
        }
      }
    };
    assert.equal(await codeOf(call()), "Canceled");
    assert.equal(await runsBefore(), 2);
  });

  it("engine runs no further UNet step after the deadline", async () => {
    assert.equal(await codeOf(mesh.pipeline.generate(long("a dog"), { timeoutMs: 6_000 })), "DeadlineExceeded");
    assert.equal(await runsBefore(), 2);
  });

  it("engine runs no further UNet step when the client's connection breaks", async () => {
    const session: ClientHttp2Session = connect(mesh.pipelineUrl);
    session.on("error", () => {});
    const stream = session.request({
      ":method": "POST",
      ":path": "/throughline.v1.ImagePipelineService/GenerateStream",
      "content-type": "application/connect+json",
    });
    stream.on("error", () => {});
    const body = Buffer.from(JSON.stringify({ request: { prompt: "a cow", options: { num_inference_steps: 100 } } }));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    stream.end(Buffer.concat([head, body]));
    for await (const chunk of stream) {
      if (String(chunk).includes('"step":1,')) {
        break;
      }
    }
    session.destroy();
    assert.equal(await runsBefore(), 2);
  });

  it("call is UNAVAILABLE when the engine process is killed, and the worker recovers by itself", async () => {
    const { transport, close } = openStockTransport(Number(new URL(mesh.workerUrl).port));
    after(close);
    const health = createClient(Health, transport);
    const watching = new AbortController();
    const states: (string | undefined)[] = [];
    let watched = () => {};
    const isWatched = new Promise<void>((resolve) => {
      watched = resolve;
    });
    const allSeen = (async () => {
      for await (const { status } of health.watch({ service: "" }, { signal: watching.signal })) {
        states.push(ServingStatus[status]);
        watched();
        if (states.length === 3) {
          return;
        }
      }
    })();
    await isWatched;
    const call = async () => {
      for await (const { event } of mesh.pipeline.generateStream({ request: long("a bee") })) {
        if (event.case === "progress" && event.value.step === 1) {
          const { pid } = engine;
          assert.ok(pid !== undefined);
          process.kill(pid, "SIGKILL");
        }
      }
    };
    assert.equal(await codeOf(call()), "Unavailable");
    await allSeen;
    watching.abort();
    assert.deepEqual(states, ["SERVING", "NOT_SERVING", "SERVING"]);
    assert.ok((await mesh.pipeline.generate({ prompt: "b", options: { numInferenceSteps: 1 } })).image);
  });
});
