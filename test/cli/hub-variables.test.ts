import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CliError } from "../../src/cli/errors.js";
import { readHubVariables } from "../../src/cli/options/model-options.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

test("Hub variables have the meaning of Python's huggingface_hub", () => {
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

test("Hub token is HF_TOKEN, HUGGING_FACE_HUB_TOKEN or that of `hf auth login`", async () => {
  const home = await temporaryFolder();
  const tokenOf = (environment: Record<string, string>) => readHubVariables({ HF_HOME: home, ...environment }).token;
  assert.equal(tokenOf({}), undefined);
  await writeFile(join(home, "token"), "hf_login\n");
  await writeFile(join(home, "other"), " hf_other\r\n");
  await writeFile(join(home, "empty"), "\n");
  assert.equal(tokenOf({}), "hf_login");
  assert.equal(tokenOf({ HF_TOKEN_PATH: join(home, "other") }), "hf_other");
  assert.equal(tokenOf({ HF_TOKEN_PATH: join(home, "empty") }), undefined);
  assert.equal(tokenOf({ HF_TOKEN_PATH: join(home, "nowhere") }), undefined);
  assert.equal(tokenOf({ HUGGING_FACE_HUB_TOKEN: "hf_old" }), "hf_old");
  assert.equal(tokenOf({ HUGGING_FACE_HUB_TOKEN: "hf_old", HF_TOKEN: "hf_new" }), "hf_new");
  assert.throws(
    () => tokenOf({ HF_TOKEN_PATH: home }),
    (error) => error instanceof CliError && /^cannot read the Hub's token .*EISDIR/.test(error.message),
  );
});

test("Hub endpoint that is no URL is rejected", () => {
  assert.throws(
    () => readHubVariables({ HF_ENDPOINT: "hub.example.com" }),
    (error) => error instanceof CliError && /^HF_ENDPOINT must be .* got "hub\.example\.com"$/.test(error.message),
  );
});
