import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import test, { describe, type TestContext } from "node:test";
import { createPipelineClient } from "../src/client/client.js";
import { createTestMesh } from "../src/testing/create-test-mesh.js";
import { temporaryFolder } from "./fixtures/temporary-folder.js";
import { documentedBlock, runCommand, snippetArguments } from "./support/documented-block.js";

const block = (name: string) => documentedBlock("docs/getting-started.md", name);

/** The text with a documented part replaced, which must be there. */
function withOther(text: string, documented: string, other: string): string {
  assert.ok(text.includes(documented), documented);
  return text.replace(documented, other);
}

test("call in Getting started writes an image", async (t) => {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  const image = join(await temporaryFolder(), "heart.png");
  const code = withOther(block("client"), "http://127.0.0.1:8080", mesh.pipelineUrl).replaceAll(
    '"heart.png"',
    JSON.stringify(image),
  );
  const output = await runCommand(process.execPath, snippetArguments(code));
  assert.match(output, /^heart\.png, seed \d+, trace [0-9a-f]{32}$/m);
  assert.equal((await readFile(image)).toString("latin1", 1, 4), "PNG");
});

test("error example in Getting started prints the code, field and limit", async (t) => {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  const code = withOther(block("errors"), "http://127.0.0.1:8080", mesh.pipelineUrl);
  assert.match(await runCommand(process.execPath, snippetArguments(code)), /^InvalidArgument: .*width.*multiple of 8/m);
});

test("server in Getting started generates with the embedded model and exits on SIGTERM", async (t) => {
  const code = withOther(withOther(block("server"), "port: 50053", "port: 0"), "port: 8081", "port: 0");
  const { url, stop } = await serving(t, code);
  const pipeline = createPipelineClient({ baseUrl: url });
  const options = { numInferenceSteps: 1, width: 64, height: 64 };
  const { image, model, traceId } = await pipeline.generate({ prompt: "a red heart", options });
  assert.equal(model, "emoji-xl");
  assert.equal(image?.contentType, "image/png");
  assert.match(traceId, /^[0-9a-f]{32}$/);
  assert.deepEqual(await stop(), [0, null]);
});

/** Runs a snippet that serves, until it prints its URL. */
async function serving(t: TestContext, code: string) {
  const child = spawn(process.execPath, snippetArguments(code), { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  const closed = once(child, "close");
  const errors = text(child.stderr);
  child.stdout.setEncoding("utf8");
  let output = "";
  let url: string | undefined;
  for await (const chunk of child.stdout) {
    output += chunk;
    url = /^pipeline at (\S+)$/m.exec(output)?.[1];
    if (url !== undefined) {
      break;
    }
  }
  if (url === undefined) {
    assert.fail(`${output}${await errors}`);
  }
  return {
    url,
    stop() {
      child.kill("SIGTERM");
      return closed;
    },
  };
}

test("test in Getting started passes", async () => {
  const output = await runCommand(process.execPath, ["--test-reporter=tap", ...snippetArguments(block("test"))]);
  assert.match(output, /^# pass 1$/m);
});

describe("README", () => {
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
});
