import assert from "node:assert/strict";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CliError } from "../../src/cli/errors.js";
import { readHubVariables } from "../../src/cli/options/model-options.js";

test("the Hub's variables mean what they mean for Python's huggingface_hub", () => {
  const cacheOf = (environment: Record<string, string>) => readHubVariables(environment).cacheFolder;
  assert.equal(cacheOf({}), join(homedir(), ".cache/huggingface/hub"));
  assert.equal(cacheOf({ HF_HOME: "" }), join(homedir(), ".cache/huggingface/hub"));
  assert.equal(cacheOf({ XDG_CACHE_HOME: "/x" }), "/x/huggingface/hub");
  assert.equal(cacheOf({ XDG_CACHE_HOME: "/x", HF_HOME: "~/hf" }), join(homedir(), "hf/hub"));
  assert.equal(cacheOf({ HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old" }), "/old");
  assert.equal(cacheOf({ HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old", HF_HUB_CACHE: "/cache" }), "/cache");
  for (const [text, offline] of Object.entries({ "1": true, TRUE: true, yes: true, on: true, "0": false, "": false })) {
    assert.equal(readHubVariables({ HF_HUB_OFFLINE: text }).offline, offline, text);
  }
  const { endpoint, token } = readHubVariables({ HF_ENDPOINT: "https://hub.example.com/", HF_TOKEN: " hf_a\n" });
  assert.deepEqual([endpoint, token], ["https://hub.example.com", "hf_a"]);
});

test("an endpoint that is no URL is refused", () => {
  assert.throws(
    () => readHubVariables({ HF_ENDPOINT: "hub.example.com" }),
    (error) => error instanceof CliError && /^HF_ENDPOINT must be .* got "hub\.example\.com"$/.test(error.message),
  );
});
