import assert from "node:assert/strict";
import { it } from "node:test";
import { parseModelId } from "../../src/hub/model-id.js";

it("model id is owner/name with an optional revision", () => {
  const sdxl = "stabilityai/stable-diffusion-xl-base-1.0";
  assert.deepEqual(parseModelId(sdxl), { name: sdxl, revision: "main" });
  assert.deepEqual(parseModelId(`${sdxl}@462165984030d82259a11f4367a4eed129e94a7b`), {
    name: sdxl,
    revision: "462165984030d82259a11f4367a4eed129e94a7b",
  });
  assert.deepEqual(parseModelId("a/b_c@refs/pr/1"), { name: "a/b_c", revision: "refs/pr/1" });
});

it("invalid model ids are rejected, above all paths out of the cache", () => {
  const others = [
    "",
    "model",
    "a/b/c",
    "a/../b",
    "../b",
    "a/b@",
    "a/b@../c",
    "a/b@/c",
    "a--b/c",
    "a/.b",
    "-a/b",
    "a b/c",
    "a/b@c@d",
  ];
  for (const text of others) {
    assert.equal(parseModelId(text), undefined, text);
  }
});
