import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";
import { externalDataFiles } from "../../src/hub/sdxl-files.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

it("external data files of a graph are listed", async () => {
  const folder = await makeSdxlFolder(await temporaryFolder(), { dataFile: "parts/weights.pb", leaveOut: [] });
  const namesOf = async (file: string) => [...(await externalDataFiles(join(folder, file), file))];
  assert.deepEqual(await namesOf("unet/model.onnx"), ["unet/parts/weights.pb"]);
  assert.deepEqual(await namesOf("text_encoder/model.onnx"), [], "its weights are inside");
});

it("truncated or invalid graph is rejected", async () => {
  const folder = await makeSdxlFolder(await temporaryFolder());
  const file = join(folder, "vae_decoder/model.onnx");
  const bytes = await readFile(file);
  await writeFile(file, bytes.subarray(0, bytes.length - 100));
  await assert.rejects(externalDataFiles(file, "vae_decoder/model.onnx"), /ends too early/);
  await writeFile(file, "version https://git-lfs.github.com/spec/v1\n");
  await assert.rejects(externalDataFiles(file, "vae_decoder/model.onnx"), /no protobuf message|ends too early/);
});

it("graph with weights outside its folder is rejected", async () => {
  const folder = await temporaryFolder();
  const file = join(folder, "model.onnx");
  const field = (number: number, content: Buffer): Buffer =>
    Buffer.concat([Buffer.from([number * 8 + 2, content.length]), content]);
  for (const location of ["../model.onnx_data", "/etc/weights", "..\\weights", "a//b", "a\0b", ""]) {
    const entry = field(13, Buffer.concat([field(1, Buffer.from("location")), field(2, Buffer.from(location))]));
    await writeFile(file, field(7, field(5, entry)));
    await assert.rejects(externalDataFiles(file, "unet/model.onnx"), /wants weights outside its folder, at "/);
  }
});
