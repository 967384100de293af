import assert from "node:assert/strict";
import { test } from "node:test";
import { pictureFileName } from "../../src/cli/request/picture-file-name.js";

test("a picture's file name is made from its prompt and is never a path", () => {
  const cases = [
    ["a red heart", "a-red-heart.png"],
    ["  A Red\tHeart! ", "a-red-heart.png"],
    ["../../etc/passwd", "etc-passwd.png"],
    [".hidden", "hidden.png"],
    ["--out x", "out-x.png"],
    ["un cœur d’été", "un-cœur-d-été.png"],
    ["❤️", "picture.png"],
    ["", "picture.png"],
    ["a\0b", "a-b.png"],
    ["x".repeat(500), `${"x".repeat(60)}.png`],
    [`start ${"y".repeat(60)}`, "start.png"],
  ] as const;
  for (const [prompt, name] of cases) {
    assert.equal(pictureFileName(prompt), name);
  }
});
