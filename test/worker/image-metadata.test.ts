import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { inspect } from "node:util";
import { crc32 } from "node:zlib";
import sharp from "sharp";
import { Scheduler } from "../../src/gen/throughline/v1/image_pb.js";
import { readImageSettings, settingsKeyword } from "../../src/image/image-settings.js";
import { addPngTexts } from "../../src/image/png-text.js";
import { createTestMesh, type TestMesh } from "../../src/testing/testing.js";
import { runInProcess } from "../cli/support/run-in-process.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

suite("a worker with --image-metadata and --genai-attributes", async () => {
  const folder = await temporaryFolder();
  let mesh: TestMesh;
  before(async () => {
    mesh = await createTestMesh({ wire: "port", imageMetadata: true, genaiAttributes: true });
  });
  after(() => mesh?.stop());
  const generate = async (...args: string[]) => {
    const out = join(folder, "out.png");
    const run = await runInProcess(["generate", ...args, "--server", mesh.pipelineUrl, "--out", out, "--quiet"]);
    return { ...run, bytes: run.message === "" ? await readFile(out) : undefined };
  };

  test("an image can be generated again from its file", async () => {
    const flags = ["--seed", "42", "--steps", "3", "--guidance", "7.1", "--negative", "clouds, 雲"];
    const first = await generate("a  red heart, 家", ...flags, "--scheduler", "ddim");
    assert.ok(first.bytes !== undefined, first.message);
    const file = join(folder, "first.png");
    await writeFile(file, first.bytes);

    const settings = readImageSettings(first.bytes);
    assert.equal(settings?.prompt, "a red heart, 家");
    assert.equal(settings.options?.scheduler, Scheduler.DDIM);
    const { comments = [] } = await sharp(first.bytes).metadata();
    assert.equal(
      comments.find(({ keyword }) => keyword === "parameters")?.text,
      "a red heart, 家\nNegative prompt: clouds, 雲\nSteps: 3, Sampler: DDIM, CFG scale: 7.1, Seed: 42, Size: 64x64, Model: fake",
    );

    assert.deepEqual((await generate("--settings-from", file)).bytes, first.bytes);
    const other = await generate("a blue heart", "--settings-from", file, "--seed", "43");
    const changed = readImageSettings(other.bytes ?? new Uint8Array());
    assert.equal(changed?.prompt, "a blue heart");
    assert.equal(changed.options?.seed, 43);
    assert.equal(changed.options.numInferenceSteps, 3);
  });

  test("a file without settings is rejected with the remedy", async () => {
    const file = join(folder, "plain.png");
    await writeFile(
      file,
      await sharp({ create: { width: 8, height: 8, channels: 3, background: "red" } })
        .png()
        .toBuffer(),
    );
    const { message, code } = await generate("--settings-from", file);
    assert.equal(code, 2);
    assert.match(
      message,
      /plain\.png: the file has no settings of throughline; name a PNG image of a worker with --image-metadata$/,
    );
    assert.match((await generate("--settings-from", join(folder, "none.png"))).message, /there is no such file$/);
  });

  test("a stored scheduler that this version does not have is named in a warning, unless a flag replaces it", async () => {
    const plain = await sharp({ create: { width: 8, height: 8, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    const file = join(folder, "later.png");
    for (const stored of ["SCHEDULER_OF_LATER", 77]) {
      const text = JSON.stringify({ prompt: "a red heart", options: { scheduler: stored, seed: 3 } });
      await writeFile(file, addPngTexts(plain, new Map([[settingsKeyword, text]]), crc32));
      const { stderr, code } = await generate("--settings-from", file);
      assert.equal(code, 0);
      assert.ok(stderr.includes(`this version has no scheduler "${stored}"; the model's own is used`), stderr);
      assert.equal((await generate("--settings-from", file, "--scheduler", "ddim")).stderr, "");
    }
  });

  test("inference has the GenAI attributes, and the prompt is on no span", async () => {
    const { traceId } = await mesh.pipeline.generate({ prompt: "an unusual canary" });
    const spans = await mesh.waitForTrace(traceId, 6);
    const genai = spans.flatMap(({ name, attributes }) =>
      Object.entries(attributes).flatMap(([key, value]) => (key.startsWith("gen_ai.") ? [[name, key, value]] : [])),
    );
    assert.deepEqual(genai.toSorted(), [
      ["inference", "gen_ai.operation.name", "generate_content"],
      ["inference", "gen_ai.output.type", "image"],
      ["inference", "gen_ai.request.model", "fake"],
    ]);
    assert.ok(!inspect(spans, { depth: 9 }).includes("canary"));
  });
});
