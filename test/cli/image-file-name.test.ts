import assert from "node:assert/strict";
import { test } from "node:test";
import { imageFileName } from "../../src/cli/commands/image-file.js";

test("image file name is made from the prompt: no path, no reserved Windows name, and distinct for distinct emoji", () => {
  const cases = [
    ["a red heart", "a-red-heart.png"],
    ["  A Red\tHeart! ", "a-red-heart.png"],
    ["../../etc/passwd", "etc-passwd.png"],
    [".hidden", "hidden.png"],
    ["--out x", "out-x.png"],
    ["un cœur d’été", "un-cœur-d-été.png"],
    ["❤️", "image-090f3234.png"],
    ["🐈🌙", "image-d2324377.png"],
    ["con", "con-image.png"],
    ["NUL!", "nul-image.png"],
    ["COM1", "com1-image.png"],
    ["con artist", "con-artist.png"],
    ["", "image.png"],
    ["a\0b", "a-b.png"],
    ["x".repeat(500), `${"x".repeat(60)}.png`],
    [`start ${"y".repeat(60)}`, "start.png"],
  ] as const;
  for (const [prompt, name] of cases) {
    assert.equal(imageFileName(prompt), name);
  }
});
