import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, type TestContext, test } from "node:test";
import { makeLoraFile } from "../fixtures/lora-file.js";
import { makeSafetensorsFolder } from "../fixtures/safetensors-model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

const readyAt = /^\S+ is ready at (http:\/\/127\.0\.0\.1:(\d+))$/m;

suite("LoRAs of services as processes", async () => {
  const home = await temporaryFolder();
  const model = join(home, "small-xl");
  const style = join(home, "style.safetensors");
  const folder = join(home, "loras");
  const small = ["--width", "64", "--height", "64", "--steps", "1", "--seed", "7", "--json"] as const;

  before(async () => {
    await makeSafetensorsFolder(model, { type: "F16", fewWords: true });
    // The text encoders open sooner than the UNet.
    await makeLoraFile(style, "wide", { type: "F16", only: /^text/ });
    await makeLoraFile(join(folder, "ink.safetensors"), "narrow", { dialect: "diffusers of 2023", only: /^text/ });
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
      loras.map(({ name, scale, subModels }: Record<string, unknown>) => [name, scale, subModels]),
      [
        ["style", 0.8, ["text_encoder", "text_encoder_2"]],
        ["ink", 1, ["text_encoder", "text_encoder_2"]],
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

  test("doctor checks LoRAs and generates an image with them, or names what is wrong with one", async () => {
    const ports = ["--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"];
    const args = ["doctor", "--model", model, "--device", "cpu", ...ports, "--lora"];
    const { code, stdout } = await runInProcess([...args, `style=${style}:0.8`]);
    assert.equal(code, 0, stdout);
    assert.match(
      stdout,
      /^ok +LoRA +style: \d+ layers of text_encoder, text_encoder_2, \d+ KiB, scale 0\.8 by default$/m,
    );
    assert.match(stdout, /^ok +image +with style: opened and generated in [\d.]+ s$/m);

    const missing = join(home, "missing.safetensors");
    const wrong = await runInProcess([...args, `pixel=${missing}`]);
    assert.equal(wrong.code, 1);
    assert.ok(wrong.stdout.includes(`LoRA "pixel" (${missing}): there is no such file`), wrong.stdout);
  });
});
