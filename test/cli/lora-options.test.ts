import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { suite, test } from "node:test";
import { CliError } from "../../src/cli/errors.js";
import { loraOptions } from "../../src/cli/options/lora-options.js";
import { parseOptions } from "../../src/cli/options/option.js";
import { findLoras, loraFlags } from "../../src/cli/services/loras.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { withVariables } from "./support/run-in-process.js";

const read = (flags: readonly string[], variables: Readonly<Record<string, string>> = {}) =>
  withVariables(variables, () => parseOptions(loraOptions, flags));

suite("LoRAs of a worker", () => {
  const files: readonly (readonly [text: string, name: string, file: string, scale: number])[] = [
    ["pixel=./pixel.safetensors", "pixel", "./pixel.safetensors", 1],
    ["pixel=./pixel.safetensors:0.8", "pixel", "./pixel.safetensors", 0.8],
    ["pixel=./pixel.safetensors:0.0000001", "pixel", "./pixel.safetensors", 1e-7],
    ["pixel=./pixel.safetensors:10", "pixel", "./pixel.safetensors", 10],
    ["pixel=pixel.SafeTensors:-2", "pixel", "pixel.SafeTensors", -2],
    ["pixel=C:\\loras\\pixel.safetensors:0.5", "pixel", "C:\\loras\\pixel.safetensors", 0.5],
    ["a b=/srv/a=b:c,d.safetensors", "a b", "/srv/a=b:c,d.safetensors", 1],
    ["x=/srv/v1.safetensors:2/y.safetensors:3", "x", "/srv/v1.safetensors:2/y.safetensors", 3],
  ];
  for (const [text, name, file, scale] of files) {
    test(`--lora ${text} is the file ${file} with scale ${scale}`, () => {
      assert.deepEqual(read([`--lora=${text}`]).loras, [{ name, file, scale }]);
      // As another process gets it.
      const again = read(loraFlags(read([`--lora=${text}`])));
      assert.deepEqual(again.loras, [{ name, file, scale }]);
    });
  }

  test("--lora may be repeated, and its variable separates LoRAs by commas, which paths can have too", () => {
    const expected = [
      { name: "a", file: "/x,y/a.safetensors", scale: 0.5 },
      { name: "b", file: "b.safetensors", scale: 1 },
    ];
    assert.deepEqual(read(["--lora", "a=/x,y/a.safetensors:0.5", "--lora", "b=b.safetensors"]).loras, expected);
    const variable = { THROUGHLINE_LORA: "a=/x,y/a.safetensors:0.5,b=b.safetensors" };
    assert.deepEqual(read([], variable).loras, expected);
    assert.deepEqual(read(["--lora", "c=c.safetensors"], variable).loras, [
      { name: "c", file: "c.safetensors", scale: 1 },
    ]);
    assert.deepEqual([read([]).loras, read([]).loraFolder], [undefined, undefined]);
  });

  const wrong = [
    "pixel",
    "pixel=",
    "=pixel.safetensors",
    "pixel=pixel.ckpt",
    "pixel=pixel.safetensors:",
    "pixel=pixel.safetensors:1e9",
    "pixel=pixel.safetensors:10.5",
    "pixel=pixel.safetensors:NaN",
    "a:b=pixel.safetensors",
    " a=pixel.safetensors",
    `${"a".repeat(129)}=pixel.safetensors`,
  ];
  for (const text of wrong) {
    test(`--lora ${text.slice(0, 40)} is rejected with its forms`, () => {
      assert.throws(
        () => read([`--lora=${text}`]),
        (error) => {
          assert.ok(error instanceof CliError);
          assert.equal(error.exitCode, 2);
          assert.match(
            error.message,
            /^--lora must be name=FILE\.safetensors or name=FILE\.safetensors:scale with a scale/,
          );
          return true;
        },
      );
    });
  }

  test("one name twice is rejected", () => {
    assert.throws(
      () => read(["--lora", "a=a.safetensors", "--lora", "a=b.safetensors"]),
      /^CliError: --lora must name each LoRA once, got /,
    );
  });

  test("folder gives its .safetensors files by their names, and --lora wins over one of them", async () => {
    const folder = await temporaryFolder();
    for (const file of ["pixel.safetensors", "Ink v2.SAFETENSORS", "._pixel.safetensors", "notes.txt"]) {
      await writeFile(join(folder, file), "");
    }
    await mkdir(join(folder, "more"));
    const loras = await findLoras(read(["--lora-folder", folder, "--lora", "pixel=./other.safetensors:2"]));
    assert.deepEqual(loras, [
      { name: "pixel", file: resolve("other.safetensors"), scale: 2 },
      { name: "Ink v2", file: join(folder, "Ink v2.SAFETENSORS"), scale: 1 },
    ]);
    assert.deepEqual(loraFlags(read(["--lora-folder", folder])), ["--lora-folder", folder]);
  });

  test("folder that is missing, and a file whose name cannot be a LoRA's, are rejected with what to do", async () => {
    const folder = await temporaryFolder();
    const missing = read(["--lora-folder", join(folder, "none")]);
    await assert.rejects(findLoras(missing), /^CliError: --lora-folder must be a folder that can be read: ENOENT/);
    await writeFile(join(folder, "a=b.safetensors"), "");
    await assert.rejects(
      findLoras(read(["--lora-folder", folder])),
      /"a=b\.safetensors", whose name cannot be that of a LoRA: .* rename it, or name it with --lora name=FILE$/,
    );
  });
});
