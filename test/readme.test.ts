import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { text } from "node:stream/consumers";
import test, { type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { createTestMesh } from "../src/testing/create-test-mesh.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const documented = "http://127.0.0.1:8080";

/** What stands in the README's block after a marker, word by word. */
function block(name: string): string {
  const found = new RegExp(`<!-- run: ${name} -->\\s*\`\`\`\\w+\\n([\\s\\S]*?)\\n\`\`\``).exec(readme)?.[1];
  assert.ok(found, `README.md has no block ${name}`);
  return found;
}

async function run(command: string, args: readonly string[]) {
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const [out, error, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  assert.equal(code, 0, error);
  return out;
}

/** A snippet as a module of a user's, with the package found by its name and the URL of a running mesh. */
const runSnippet = (code: string) =>
  run(process.execPath, ["--conditions=throughline-source", "--import", "tsx", "--input-type=module", "--eval", code]);

async function pipelineUrl(t: TestContext): Promise<string> {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  return mesh.pipelineUrl;
}

for (const name of ["buf-curl", "curl"]) {
  const missing = name === "curl" && spawnSync("curl", ["--version"]).error !== undefined;
  test(`the README's ${name} call paints`, { skip: missing && "curl is not installed" }, async (t) => {
    const command = block(name);
    assert.ok(command.includes(documented));
    const answer = JSON.parse(await run("bash", ["-c", command.replace(documented, await pipelineUrl(t))]));
    assert.match(answer.image.url, /^data:image\/png;base64,/);
    assert.match(answer.trace_id ?? answer.traceId, /^[0-9a-f]{32}$/);
  });
}

test("the README's client snippet paints and tells its steps", async (t) => {
  const output = await runSnippet(block("client").replace(documented, await pipelineUrl(t)));
  assert.match(output, /^step 1 of 4$/m);
  assert.match(output, /data:image\/png;base64,\S+ \d+ [0-9a-f]{32}/);
});

test("the README's testing snippet gives six spans of both services", async () => {
  const output = await runSnippet(block("testing"));
  assert.match(output, /image\/png/);
  assert.equal(output.match(/'(?:image-pipeline|text-to-image-worker): [\w-]+'/g)?.length, 6);
});

test("README links each file of docs/ once", () => {
  const files = readdirSync(new URL("../docs", import.meta.url), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).replaceAll(sep, "/"));
  const linked = [...readme.matchAll(/\]\((docs\/[^)#]+)/g)].map((match) => match[1]);
  assert.deepEqual(linked.sort(), files.sort());
});

test("README names what the package exports", () => {
  const { exports } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const named = [...readme.matchAll(/^\| `throughline(\/\w+)` \|/gm)].map((match) => `.${match[1]}`);
  assert.deepEqual([...named, "./package.json"].sort(), Object.keys(exports).sort());
});
