import assert from "node:assert/strict";
import { chmod, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { renderFindings } from "../../src/cli/commands/doctor-findings.js";
import {
  checkCollector,
  checkHub,
  checkImageStore,
  checkNode,
  checkPort,
} from "../../src/cli/commands/doctor-machine.js";
import { countNodes } from "../../src/cli/commands/doctor-model.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { steadyPort } from "../support/steady-port.js";
import { emptyUser } from "./support/empty-user.js";
import { runCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

/** A loopback port that something listens on. */
async function takenPort(t: TestContext): Promise<number> {
  const { port } = await listenOnLoopback(
    t,
    createServer().on("connection", (socket) => socket.destroy()),
  );
  return port;
}

suite("throughline doctor", { concurrency: 2 }, async () => {
  const model = await makeSdxlFolder(join(await temporaryFolder(), "tiny-xl"));
  const ports = ["--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"];

  test("doctor generates on a working machine, prints the nodes per provider, and leaves no file of its user", async (t) => {
    const user = await emptyUser();
    const args = ["doctor", "--model", model, "--device", "cpu", ...ports];
    const { code, stdout } = await runCommand(t, args, user.environment);
    assert.equal(code, 0);
    assert.deepEqual(await user.files(), []);
    assert.match(stdout, /^ok +node +\d+\.\d+\.\d+ on /m);
    assert.match(stdout, /^ok +onnxruntime +\d+\.\d+\.\d+ with cpu/m);
    assert.match(stdout, /^ok +device +cpu: loaded in /m);
    assert.match(
      stdout,
      /^ok +model +tiny-xl: SDXL, 4 graphs, \d+ KiB; 64×64 in \d+ steps at guidance 5 by default \(euler-discrete\)$/m,
    );
    assert.match(stdout, /^ok +nodes +CPUExecutionProvider: [1-9]\d* nodes$/m);
    assert.ok(!stdout.includes("\u001b") && !stdout.includes("WRONG"));
    assert.doesNotMatch(stdout, /^warning/m);
  });

  test("doctor does not warn about devices that auto skips", async (t) => {
    const { code, stdout } = await runCommand(t, ["doctor", "--model", model, "--device", "auto", "--json", ...ports]);
    assert.equal(code, 0);
    const { findings } = JSON.parse(stdout);
    assert.deepEqual(
      findings.filter(({ state }: { readonly state: string }) => state !== "ok"),
      [],
    );
  });

  test("doctor names the file of an invalid model, cannot generate, and warns about the rest", async (t) => {
    const wrong = await makeSdxlFolder(join(await temporaryFolder(), "broken"));
    await rm(join(wrong, "unet/model.onnx"));
    const collector = `http://127.0.0.1:${await steadyPort()}`;
    const { code, stdout, stderr } = await runCommand(
      t,
      ["doctor", "--model", wrong, "--device", "cpu", "--json", ...ports],
      { OTEL_EXPORTER_OTLP_ENDPOINT: collector },
    );
    assert.equal(code, 1);
    assert.equal(stderr, "");
    const { canGenerate, findings, nodes } = JSON.parse(stdout);
    assert.equal(canGenerate, false);
    assert.deepEqual(nodes, {});
    const states = Object.fromEntries(findings.map(({ name, state }: Record<string, string>) => [name, state]));
    assert.equal(states["collector"], "warning");
    assert.equal(states["image"], "wrong");
    assert.match(stdout, /unet\/model\.onnx: expected a file/);
  });

  test("doctor explains why a named device cannot be used and what to do", async (t) => {
    const device = process.platform === "darwin" ? "dml" : "coreml";
    const { code, stdout } = await runCommand(t, ["doctor", "--model", model, "--device", device, ...ports]);
    assert.equal(code, 1);
    assert.match(stdout, new RegExp(`^WRONG +image +device ${device} cannot be used: .*backend not found.*only`, "m"));
  });

  test("doctor rejects an unknown device", async () => {
    const { code, message } = await runInProcess(["doctor", "--device", "gpu"]);
    assert.equal(code, 2);
    assert.match(message, /--device must be auto, cpu, cuda.*got "gpu"/);
  });
});

test("port in use is a warning", async (t) => {
  const port = await takenPort(t);
  const { state, found } = await checkPort("worker", "127.0.0.1", port);
  assert.deepEqual([state, found], ["warning", `127.0.0.1:${port}: in use`]);
  assert.equal((await checkPort("worker", "127.0.0.1", 0)).state, "ok");
});

test("collector is reachable, down or not configured", async (t) => {
  const there = `http://127.0.0.1:${await takenPort(t)}`;
  const away = `127.0.0.1:${await steadyPort()}`;
  assert.equal((await checkCollector({ OTEL_EXPORTER_OTLP_ENDPOINT: there })).state, "ok");
  const insecure = { OTEL_EXPORTER_OTLP_ENDPOINT: away, OTEL_EXPORTER_OTLP_INSECURE: "true" };
  const finding = await checkCollector(insecure);
  assert.equal(finding.state, "warning");
  assert.match(finding.found, /^http:\/\/127\.0\.0\.1:\d+ is not reachable: ECONNREFUSED$/);
  assert.match((await checkCollector({})).found, /^none/);
});

test("image store that is not writable is a warning", async () => {
  const folder = await temporaryFolder();
  assert.equal((await checkImageStore(folder)).state, "ok");
  assert.match((await checkImageStore(join(folder, "a/b"))).found, /b will be made$/);
  const file = join(folder, "file");
  await writeFile(file, "");
  assert.match((await checkImageStore(join(file, "images"))).found, /file is no folder$/);
  // The superuser may write anywhere.
  if (process.getuid?.() !== 0) {
    await chmod(folder, 0o500);
    assert.equal((await checkImageStore(folder)).state, "warning");
    await chmod(folder, 0o700);
  }
});

test("unreachable Hub is a warning", async () => {
  const { state, found } = await checkHub(`http://127.0.0.1:${await steadyPort()}`, {});
  assert.equal(state, "warning");
  assert.match(found, /ECONNREFUSED/);
});

test("Node version below the minimum is an error", () => {
  assert.equal(checkNode("18.20.1").state, "wrong");
  assert.equal(checkNode("20.18.0").state, "wrong");
  assert.equal(checkNode("20.19.0").state, "ok");
  assert.equal(checkNode("24.1.0").state, "ok");
});

test("profiled node that ran twice counts once, for the provider that ran it", async () => {
  const folder = await temporaryFolder();
  const kernel = (index: number, provider: string) => ({
    name: `Conv_${index}_kernel_time`,
    args: { provider, node_index: String(index) },
  });
  const events = [
    { name: "session_initialization" },
    { name: "Conv_1_fence_before", args: { node_index: "1" } },
    kernel(1, "CUDAExecutionProvider"),
    kernel(1, "CUDAExecutionProvider"),
    kernel(2, "CUDAExecutionProvider"),
    kernel(3, "CPUExecutionProvider"),
  ];
  await writeFile(join(folder, "unet.json"), JSON.stringify(events));
  await writeFile(join(folder, "vae_decoder.json"), JSON.stringify([kernel(1, "CUDAExecutionProvider")]));
  assert.deepEqual(
    [...(await countNodes(folder))],
    [
      ["CUDAExecutionProvider", 3],
      ["CPUExecutionProvider", 1],
    ],
  );
});

test("report is aligned, and colored only when requested", () => {
  const findings = [
    { name: "node", state: "ok", found: "20.20.2" },
    { name: "collector", state: "warning", found: "away", remedy: "start it" },
  ] as const;
  const plain = "ok       node       20.20.2\nwarning  collector  away\n                    → start it\n";
  assert.equal(renderFindings(findings, { colored: false }), plain);
  const colored = renderFindings(findings, { colored: true });
  assert.ok(colored.includes("\u001b[33mwarning"));
  assert.equal(stripVTControlCharacters(colored), plain);
});
