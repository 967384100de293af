import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import test, { type TestContext } from "node:test";
import { createTestMesh } from "../src/testing/create-test-mesh.js";
import { documentedBlock, runCommand, snippetArguments } from "./support/documented-block.js";

const documented = "http://127.0.0.1:8080";
const block = (name: string) => documentedBlock("README.md", name);
const runSnippet = (code: string) => runCommand(process.execPath, snippetArguments(code));

async function pipelineUrl(t: TestContext): Promise<string> {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  return mesh.pipelineUrl;
}

for (const name of ["buf-curl", "curl"]) {
  const missing = name === "curl" && spawnSync("curl", ["--version"]).error !== undefined;
  test(`${name} call in the README returns an image`, { skip: missing && "curl is not installed" }, async (t) => {
    const command = block(name);
    assert.ok(command.includes(documented));
    const answer = JSON.parse(await runCommand("bash", ["-c", command.replace(documented, await pipelineUrl(t))]));
    assert.match(answer.image.url, /^data:image\/png;base64,/);
    assert.match(answer.trace_id ?? answer.traceId, /^[0-9a-f]{32}$/);
  });
}

test("client snippet in the README prints each step and the image", async (t) => {
  const output = await runSnippet(block("client").replace(documented, await pipelineUrl(t)));
  assert.deepEqual(output.match(/^step .*/gm), ["step 1 of 4", "step 2 of 4", "step 3 of 4", "step 4 of 4"]);
  assert.match(output, /data:image\/png;base64,\S+ \d+ [0-9a-f]{32}/);
});

test("testing snippet in the README prints six spans of both services", async () => {
  const output = await runSnippet(block("testing"));
  assert.match(output, /image\/png/);
  assert.equal(output.match(/'(?:image-pipeline|text-to-image-worker): [\w-]+'/g)?.length, 6);
});

test("README names the exports of the package", () => {
  const { exports } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const named = [...readme.matchAll(/^\| `throughline(\/[\w-]+)` \|/gm)].map((match) => `.${match[1]}`);
  assert.deepEqual([...named, "./package.json"].sort(), Object.keys(exports).sort());
});
