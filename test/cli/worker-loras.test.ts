import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, type TestContext, test } from "node:test";
import { makeLoraFile } from "../fixtures/lora-file.js";
import { makeSafetensorsFolder } from "../fixtures/safetensors-model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { runCommand, startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

const readyAt = /^\S+ is ready at (http:\/\/127\.0\.0\.1:(\d+))$/m;

suite("LoRAs of services as processes", async () => {
  const home = await temporaryFolder();
  const model = join(home, "small-xl");
  const style = join(home, "style.safetensors");
  const folder = join(home, "loras");
  const small = ["--width", "64", "--height", "64", "--steps", "1", "--seed", "7", "--json"] as const;

  before(async () => {
    await makeSafetensorsFolder(model, { type: "F16" });
    await makeLoraFile(style, "wide", { type: "F16" });
    await makeLoraFile(join(folder, "ink.safetensors"), "narrow", { dialect: "diffusers of 2023" });
  });

  test("worker has LoRAs of flags and of a folder, logs them, and requests name them", async (t: TestContext) => {
    const loraFlags = ["--lora", `style=${style}:0.8`, "--lora-folder", folder];
    const common = ["--port", "0", "--grace", "0"];
    const worker = startCommand(t, ["worker", "--app", "acme/worker", "--model", model, ...loraFlags, ...common]);
    const [, , workerPort] = await worker.waitFor(readyAt);
    const target = `acme/worker=127.0.0.1:${workerPort}`;
    const pipeline = startCommand(t, ["pipeline", "--worker", target, ...common]);
    const [, server = ""] = await pipeline.waitFor(readyAt);

    const logged = worker.stderr.split("\n").find((line) => line.includes("engine ready")) ?? "";
    const { loras } = JSON.parse(logged);
    assert.deepEqual(
      loras.map(({ name, scale, textEncoders }: Record<string, unknown>) => [name, scale, textEncoders]),
      [
        ["style", 0.8, true],
        ["ink", 1, true],
      ],
    );

    const generate = async (name: string, ...flags: readonly string[]) => {
      const out = join(home, `${name}.png`);
      const args = ["generate", "a heart", "--server", server, ...small, "--out", out, ...flags];
      return { out, ...(await runInProcess(args)) };
    };
    const sizes = new Set<string>();
    for (const flags of [[], ["--lora", "style"], ["--lora", "style:0.3", "--lora", "ink:-0.5"]]) {
      const { code, message, stdout } = await generate("image", ...flags);
      assert.deepEqual([code, message], [0, ""]);
      sizes.add(JSON.stringify(JSON.parse(stdout).image));
    }
    assert.equal(sizes.size, 3, "each is another image");
    const unknown = await generate("none", "--lora", "pixel");
    assert.notEqual(unknown.code, 0);
    assert.match(unknown.message, /this worker has no LoRA of that name; it has style, ink/);
  });

  test("worker with a LoRA that cannot be used does not start, and names the file and the tensor", async (t) => {
    const broken = await makeLoraFile(join(home, "broken.safetensors"), "narrow", {
      change: (tensors) =>
        void tensors.set("lora_unet_extra.lora_down.weight", { shape: [1], values: new Float32Array(1) }),
    });
    const { code, stderr } = await runCommand(t, ["worker", "--model", model, "--lora", `x=${broken}`, "--port", "0"]);
    assert.equal(code, 1);
    assert.ok(
      stderr.includes(
        `LoRA "x" (${broken}): expected tensors for layers of this model only, found lora_unet_extra.lora_down`,
      ),
      stderr,
    );
  });

  test("doctor checks LoRAs and generates an image with them", async (t) => {
    const ports = ["--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"];
    const args = ["doctor", "--model", model, "--device", "cpu", "--lora", `style=${style}:0.8`, ...ports];
    const { code, stdout } = await runCommand(t, args);
    assert.equal(code, 0, stdout);
    assert.match(stdout, /^ok +LoRA +style: \d+ layers of UNet and text encoders, \d+ KiB, scale 0\.8 by default$/m);
    assert.match(stdout, /^ok +image +with style: opened and generated in [\d.]+ s$/m);
  });
});
