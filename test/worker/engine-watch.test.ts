import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { pino } from "pino";
import { createEngineHost, type EngineHost, type EngineHostOptions } from "../../src/worker/engine-host.js";
import { generateOnce } from "../engine/generate-once.js";
import { testProgram } from "../support/test-program.js";

const program = testProgram("../engine/child/fake-program", import.meta.url);
const mebibyte = 2 ** 20;

async function startHost(options: Partial<EngineHostOptions>): Promise<{ host: EngineHost; log: string[] }> {
  const log: string[] = [];
  const logger = pino({ level: "info" }, { write: (line) => log.push(line) });
  const host = await createEngineHost({ modelFolder: "none", program, logger, backOffMs: 1, ...options });
  after(() => host.close());
  return { host, log };
}

function nextReady(host: EngineHost): Promise<void> {
  return new Promise((resolve) => {
    const stop = host.onAvailabilityChange((available) => {
      if (available) {
        stop();
        resolve();
      }
    });
  });
}

const generate = (host: EngineHost, prompt: string) => generateOnce(host, { prompt, seed: 1 });
const lost = { name: "GenerationError", kind: "lost" };

describe("engine host and a process that hangs", async () => {
  it("engine host kills a silent process and has the next one ready without a request", async () => {
    const { host, log } = await startHost({ silenceMs: 6_000 });
    const { pid } = host;
    assert.ok(pid !== undefined);
    const ready = nextReady(host);
    process.kill(pid, "SIGSTOP");
    await assert.rejects(generate(host, "a cat"), lost);
    await ready;
    assert.ok(log.some((line) => line.includes("killed: no sign of life for 6000 ms")));
    await generate(host, "a cat");
  });

  it("engine host keeps a process whose runs block its thread for longer than the silence limit", async () => {
    const { host } = await startHost({ silenceMs: 6_000 });
    const { pid } = host;
    await generate(host, "block 13000");
    assert.equal(host.pid, pid);
  });

  it("engine host kills a process whose run never returns although heartbeats arrive", async () => {
    const { host, log } = await startHost({ stallMs: 4_000 });
    const ready = nextReady(host);
    await assert.rejects(generate(host, "hang"), lost);
    await ready;
    assert.ok(log.some((line) => line.includes("killed: no progress for")));
    await generate(host, "a cat");
  });
});

describe("engine host and a process that grows", async () => {
  it("engine host restarts a grown process between two images and logs it", async () => {
    const { host, log } = await startHost({ maxMemoryBytes: 400 * mebibyte });
    const { pid } = host;
    await generate(host, "a cat");
    assert.equal(host.pid, pid);
    const ready = nextReady(host);
    await generate(host, "grow 350");
    // No request gets a turn until the next process is ready.
    assert.equal(host.state, "restarting");
    await assert.rejects(generate(host, "a cat"), lost);
    await ready;
    assert.notEqual(host.pid, pid);
    assert.ok(log.some((line) => line.includes("exceeds its memory limit")));
    assert.ok(!log.some((line) => line.includes("engine died")));
    await generate(host, "a cat");
    // A caller who makes it grow each time has it started anew once a minute at most.
    const { pid: second } = host;
    await generate(host, "grow 350");
    assert.deepEqual([host.state, host.pid], ["ready", second]);
    await generate(host, "a cat");
  });

  it("engine host kills a process during an image when it grows far over the limit", async () => {
    const { host, log } = await startHost({ maxMemoryBytes: 300 * mebibyte });
    const ready = nextReady(host);
    // It would generate forever after it has grown; the heartbeat reports its memory.
    await assert.rejects(generate(host, "grow 500 hang"), lost);
    await ready;
    assert.ok(log.some((line) => /killed: its memory of \d+ bytes is over the hard limit/.test(line)));
  });

  it("engine host does not start with a limit below the loaded model's memory", async () => {
    await assert.rejects(
      startHost({ maxMemoryBytes: mebibyte }),
      /uses \d+ bytes of memory, more than .* 1048576; raise the limit$/,
    );
  });

  it("engine host warns at start of a limit that leaves little memory for images", async () => {
    const rejected = await startHost({ maxMemoryBytes: mebibyte }).catch((error: unknown) => String(error));
    const loadedBytes = Number(/uses (\d+) bytes/.exec(String(rejected))?.[1]);
    const { log } = await startHost({ maxMemoryBytes: loadedBytes * 1.12 });
    assert.ok(log.some((line) => line.includes("raise the limit")));
    const { log: quiet } = await startHost({ maxMemoryBytes: loadedBytes * 2 });
    assert.ok(!quiet.some((line) => line.includes("raise the limit")));
  });
});
