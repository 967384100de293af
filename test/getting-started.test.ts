import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import test, { type TestContext } from "node:test";
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
