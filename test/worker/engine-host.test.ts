import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { rename } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { pino } from "pino";
import type { GenerationEvent, GenerationRequest } from "../../src/engine/engine.js";
import { createEngineHost, type EngineHost, type EngineHostState } from "../../src/worker/engine-host.js";
import { generateOnce, generationEvents } from "../engine/generate-once.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { testProgram } from "../support/test-program.js";

const program = testProgram("./lifeline-program", import.meta.url);
const heart: GenerationRequest = { prompt: "a red heart", seed: 1, steps: 4 };
/** So many steps that a test is done long before they are. */
const endless: GenerationRequest = { prompt: "a red heart", seed: 1, steps: 1000 };

/** Whether processes that start are kept from beginning. */
let held = false;
const lifelines = createServer((socket) => void (held || socket.write("begin")));
before(async () => {
  lifelines.listen(0, "127.0.0.1");
  await once(lifelines, "listening");
  const address = lifelines.address();
  assert.ok(typeof address === "object" && address !== null);
  process.env["LIFELINE_PORT"] = `${address.port}`;
});
after(() => lifelines.close());

/** The next engine process that starts: its end closes the socket. */
async function nextLifeline(): Promise<{ readonly ended: Promise<unknown> }> {
  const [socket]: Socket[] = await once(lifelines, "connection");
  assert.ok(socket);
  socket.on("error", () => {});
  // A process that is killed may reset it.
  return { ended: new Promise((resolve) => socket.resume().once("close", resolve)) };
}

async function makeFolder(unetWork = 0): Promise<string> {
  return makeSdxlFolder(join(await temporaryFolder(), "tiny-xl"), { unetWork });
}

const logger = pino({ level: "silent" });

async function startHost(modelFolder: string): Promise<EngineHost> {
  const host = await createEngineHost({ modelFolder, program, logger, backOffMs: 1 });
  after(() => host.close());
  return host;
}

function whenState(host: EngineHost, wanted: EngineHostState): Promise<void> {
  return new Promise((resolve) => {
    const stopListening = host.onAvailabilityChange(() => {
      if (host.state === wanted) {
        stopListening();
        resolve();
      }
    });
  });
}

/** Generates until the first step is done, then does something, and goes on. */
async function generateAndThen(host: EngineHost, signal: AbortSignal, afterFirstStep: () => void): Promise<void> {
  await host.generate(endless, {
    signal,
    onEvent(event) {
      if (event.kind === "step" && event.step === 1) {
        afterFirstStep();
      }
    },
  });
}

describe("engine host", async () => {
  const folder = await makeFolder(2);
  const host = await startHost(folder);
  const never = new AbortController().signal;

  it("engine host generates in another process, with the same bytes for the same seed", async () => {
    assert.deepEqual([host.info.model, host.info.executionProvider], ["tiny-xl", "cpu"]);
    assert.deepEqual(host.info.limits.sizes.width, { step: 16, minimum: 16, maximum: 128, default: 64 });
    assert.ok(host.pid !== undefined && host.pid !== process.pid);
    assert.ok(host.startUp.loadMs > 0 && host.startUp.warmUpMs > 0);
    const [first, second] = [await generateOnce(host, heart), await generateOnce(host, heart)];
    assert.equal(first.pixels.data.constructor, Uint8Array);
    assert.deepEqual(first.pixels, second.pixels);
    assert.notDeepEqual((await generateOnce(host, { ...heart, seed: 2 })).pixels, first.pixels);
  });

  it("engine host forwards previews, and the reason for an unsupported request", async () => {
    const events = await generationEvents(host, { ...heart, previewInterval: 4 });
    const preview = events.flatMap((event) => (event.kind === "step" && event.preview ? [event.preview] : []));
    assert.deepEqual(
      preview.map(({ width, height, data }) => [width, height, data.length]),
      [[8, 8, 192]],
    );
    await assert.rejects(generateOnce(host, { ...heart, width: 72 }), {
      name: "GenerationError",
      kind: "unsupported",
      violations: [{ field: "width", message: "this model takes a multiple of 16 from 16 to 128" }],
      message: /a multiple of 16 from 16 to 128$/,
    });
  });

  it("engine host rejects a second image during a generation and continues the first", async () => {
    const { signal } = new AbortController();
    const second: Promise<unknown>[] = [];
    const onEvent = ({ kind }: GenerationEvent) => {
      if (kind === "step") {
        second.push(assert.rejects(generateOnce(host, heart), /one image at a time/));
      }
    };
    await host.generate({ ...heart, steps: 5 }, { signal, onEvent });
    assert.equal(second.length, 5);
    await Promise.all(second);
  });

  it("engine host stops for an aborted signal with its reason and generates the next image", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    await assert.rejects(
      generateAndThen(host, controller.signal, () => controller.abort(reason)),
      reason,
    );
    assert.equal(host.state, "ready");
    await generateOnce(host, heart);
  });

  it("engine process ignores SIGINT and SIGTERM and leaves them to its host", async () => {
    const { pid } = host;
    assert.ok(pid !== undefined);
    process.kill(pid, "SIGINT");
    process.kill(pid, "SIGTERM");
    await generateOnce(host, heart);
    assert.equal(host.pid, pid);
  });

  it("engine host fails the image whose process is killed and generates the next one in a new process", async () => {
    const before = await generateOnce(host, heart);
    const { pid } = host;
    assert.ok(pid !== undefined);
    const changes: unknown[] = [];
    const stopListening = host.onAvailabilityChange((available) => changes.push([host.state, available]));
    const ready = whenState(host, "ready");
    await assert.rejects(
      generateAndThen(host, never, () => process.kill(pid, "SIGKILL")),
      { name: "GenerationError", kind: "lost" },
    );
    await assert.rejects(generateOnce(host, heart), { name: "GenerationError", kind: "lost" });
    await ready;
    stopListening();
    assert.deepEqual(changes, [
      ["restarting", false],
      ["ready", true],
    ]);
    assert.notEqual(host.pid, pid);
    assert.deepEqual((await generateOnce(host, heart)).pixels, before.pixels);
  });

  it("engine host restarts until the model loads", async () => {
    const { pid } = host;
    assert.ok(pid !== undefined);
    const [unet, away] = [join(folder, "unet/model.onnx"), join(folder, "unet/away.onnx")];
    await rename(unet, away);
    const ready = whenState(host, "ready");
    process.kill(pid, "SIGKILL");
    // The second process from now on is started only because the first one could not load the model.
    await nextLifeline();
    await nextLifeline();
    assert.equal(host.state, "restarting");
    await rename(away, unet);
    await ready;
    await generateOnce(host, heart);
  });

  it("engine host ends its process on close, also during an image", async () => {
    const lifeline = nextLifeline();
    const closing = await startHost(await makeFolder(2));
    const { ended } = await lifeline;
    let closed: Promise<void> | undefined;
    await assert.rejects(
      generateAndThen(closing, never, () => {
        closed = closing.close();
      }),
      { name: "GenerationError", kind: "lost" },
    );
    await closed;
    await ended;
    assert.equal(closing.state, "stopped");
    await assert.rejects(generateOnce(closing, heart), { name: "GenerationError", kind: "lost", message: /shut down/ });
    await closing.close();
  });

  it("engine host ends a restarting process on close", async () => {
    const first = nextLifeline();
    const closing = await startHost(await makeFolder());
    await first;
    const { pid } = closing;
    assert.ok(pid !== undefined);
    const second = nextLifeline();
    process.kill(pid, "SIGKILL");
    const { ended } = await second;
    await Promise.all([closing.close(), ended]);
    assert.deepEqual([closing.state, closing.pid], ["stopped", undefined]);
  });

  it("engine host rejects an invalid folder with the reason and leaves no process", async () => {
    const wrong = await makeFolder();
    await rename(join(wrong, "unet/config.json"), join(wrong, "unet/other.json"));
    const lifeline = nextLifeline();
    await assert.rejects(startHost(wrong), {
      name: "ModelFolderError",
      message: /unet\/config.json: expected a file, since SDXL.s own values do not fit .*, found none$/,
    });
    await (await lifeline).ended;
  });

  it("engine host can be stopped while it starts", async () => {
    const controller = new AbortController();
    const reason = new Error("never mind");
    held = true;
    const lifeline = nextLifeline();
    const starting = createEngineHost({ modelFolder: folder, program, logger, signal: controller.signal });
    const rejected = assert.rejects(starting, reason);
    const { ended } = await lifeline;
    controller.abort(reason);
    await rejected;
    await ended;
    held = false;
  });

  it("engine process exits when its owner is killed during an image", async () => {
    const lifeline = nextLifeline();
    const owner = fork(testProgram("./host-program", import.meta.url), [await makeFolder(2)], { stdio: "ignore" });
    const { ended } = await lifeline;
    await once(owner, "message");
    owner.kill("SIGKILL");
    await ended;
  });
});
