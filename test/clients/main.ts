import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { createCallerDirectory } from "../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { serveOpenAi } from "../fronts/support/serve-openai.js";
import { runProgram } from "../interop/support/run-program.js";
import { documentedBlock } from "../support/documented-block.js";
import { createHeldEngine } from "../support/held-engine.js";
import { installNpmPackages } from "../support/npm-packages.js";
import { pythonEnvironment } from "../support/python-environment.js";

/**
 * OpenAI's API with the clients that people have: `openai` for Node and Python, and the AI SDK. Every snippet of docs/clients.md runs as it
 * stands there. Needs the npm and PyPI registries at its first run, Python and curl.
 */
const cache = fileURLToPath(new URL("../../node_modules/.cache/throughline-clients/", import.meta.url));
const packages = ["openai@6.49.0", "ai@6.0.326", "@ai-sdk/openai-compatible@2.0.92"];
const page = "docs/clients.md";
const inDocs = "http://127.0.0.1:50051";

/** Installs the clients' packages where they are not yet. Their place is found by programs in folders below it. */
async function installPackages(): Promise<void> {
  await installNpmPackages(cache, packages);
}

await installPackages();
const python = await pythonEnvironment(fileURLToPath(new URL("requirements.txt", import.meta.url)));
let runs = 0;

/** Runs a program in a folder of its own, and returns the folder and what it printed. */
async function run(extension: "mjs" | "py" | "sh", code: string, files: Readonly<Record<string, Uint8Array>> = {}) {
  const folder = join(cache, `run-${process.pid}-${runs++}`);
  mkdirSync(folder);
  for (const [name, bytes] of Object.entries(files)) {
    writeFileSync(join(folder, name), bytes);
  }
  const file = join(folder, `program.${extension}`);
  writeFileSync(file, code);
  const program = { mjs: process.execPath, py: python, sh: "sh" }[extension];
  const { code: exit, stdout, tail } = await runProgram(program, [file], { cwd: folder, timeoutMs: 60_000 });
  assert.equal(exit, 0, tail);
  return { folder, out: stdout.toString() };
}

/** An image to start from. */
const heart = await sharp({ create: { width: 64, height: 64, channels: 3, background: "red" } })
  .png()
  .toBuffer();
const snippet = (name: string, url: string) => documentedBlock(page, name).replaceAll(inDocs, url);
const sizeOf = async (file: string) => {
  const { width, height, format } = await sharp(readFileSync(file)).metadata();
  return `${format} ${width}x${height}`;
};

suite("clients of OpenAI's API", () => {
  test("openai for Node: an image with its seed and trace", async (t) => {
    const { url } = await serveOpenAi(t);
    const { folder, out } = await run("mjs", snippet("openai-node", url));
    assert.equal(await sizeOf(join(folder, "heart.png")), "png 64x64");
    assert.match(out, /^7 [0-9a-f]{32}\n$/);
  });

  test("openai for Node: a stream of partial images", async (t) => {
    const { url } = await serveOpenAi(t);
    const { out } = await run("mjs", snippet("openai-node-stream", url));
    assert.match(out, /^(image_generation\.partial_image \d+\n){2}image_generation\.completed \d+\n$/);
  });

  test("openai for Python: n images, extensions, seeds", async (t) => {
    const { url } = await serveOpenAi(t);
    const { folder, out } = await run("py", snippet("openai-python", url));
    assert.equal(await sizeOf(join(folder, "heart-1.png")), "png 64x64");
    assert.match(out, /^7 [0-9a-f]{32}\n8 [0-9a-f]{32}\n$/);
  });

  test("AI SDK: an image", async (t) => {
    const { url } = await serveOpenAi(t);
    const { folder } = await run("mjs", snippet("ai-sdk", url));
    assert.equal(await sizeOf(join(folder, "heart.png")), "png 64x64");
  });

  test("curl: models, an image, a stream", async (t) => {
    const { url } = await serveOpenAi(t);
    const { out } = await run("sh", snippet("curl", url));
    assert.match(out, /"object":"list"[\s\S]*"b64_json"[\s\S]*event: image_generation\.completed/);
  });

  test("openai for Node and Python, and curl: an image from an image", async (t) => {
    const { url, collector } = await serveOpenAi(t);
    const files = { "heart.png": heart };
    for (const [extension, name] of [
      ["mjs", "openai-node-edit"],
      ["py", "openai-python-edit"],
    ] as const) {
      const { folder } = await run(extension, snippet(name, url), files);
      assert.equal(await sizeOf(join(folder, "blue-heart.png")), "png 64x64");
    }
    const { out } = await run("sh", snippet("curl-edit", url), files);
    const { data } = JSON.parse(out);
    assert.match(data[0].b64_json, /^iVBOR/);
    const strengths = collector.spans().flatMap(({ attributes }) => attributes["diffusion.strength"] ?? []);
    assert.deepEqual(strengths, [0.6, 0.6, 0.6]);
  });

  test("openai for Node and Python, and the AI SDK: streams, LoRAs and lists of an edit", async (t) => {
    const engine = createFakeEngine({ loras: ["pixel", "flat"] });
    const { url, collector } = await serveOpenAi(t, { engine });
    const files = { "heart.png": heart };
    const loras = '[{ "name": "pixel", "scale": 0.5 }, { "name": "flat", "scale": -1 }]';
    const node = await run(
      "mjs",
      `
      import { createReadStream } from "node:fs";
      import OpenAI from "openai";
      const openai = new OpenAI({ baseURL: "${url}/v1", apiKey: "any", maxRetries: 0 });
      const edit = (request) => openai.images.edit({ prompt: "a heart", image: createReadStream("heart.png"), ...request });
      for await (const event of await edit({ stream: true, partial_images: 1, loras: ${loras} })) console.log(event.type);
      console.log((await edit({ image: [createReadStream("heart.png")], n: 2 })).data.length);
      const images = [createReadStream("heart.png"), createReadStream("heart.png")];
      for (const wrong of [{ image: images }, { mask: createReadStream("heart.png") }, { strength: 2 }]) {
        await edit(wrong).catch((error) => console.log(error.constructor.name, error.param));
      }`,
      files,
    );
    assert.deepEqual(node.out.trim().split("\n"), [
      "image_edit.partial_image",
      "image_edit.completed",
      "2",
      "BadRequestError image",
      "BadRequestError mask",
      "BadRequestError strength",
    ]);
    const python = await run(
      "py",
      `
from openai import OpenAI, APIError
openai = OpenAI(base_url="${url}/v1", api_key="any", max_retries=0)
def edit(**request):
    return openai.images.edit(prompt="a heart", **{"image": open("heart.png", "rb"), **request})
for event in edit(stream=True, partial_images=1, extra_body={"loras": ${loras}}):
    print(event.type)
print(len(edit(image=[open("heart.png", "rb")], n=2).data))
try:
    edit(mask=open("heart.png", "rb"))
except APIError as error:
    print(type(error).__name__, error.param)
`,
      files,
    );
    assert.deepEqual(python.out.trim().split("\n"), [
      "image_edit.partial_image",
      "image_edit.completed",
      "2",
      "BadRequestError mask",
    ]);
    const { out } = await run(
      "mjs",
      `
      import { readFile } from "node:fs/promises";
      import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
      import { generateImage } from "ai";
      const throughline = createOpenAICompatible({ name: "throughline", baseURL: "${url}/v1", apiKey: "any" });
      const { images } = await generateImage({
        model: throughline.imageModel("local/text-to-image-worker"),
        prompt: { text: "a heart", images: [await readFile("heart.png")] },
        providerOptions: { throughline: { strength: 0.5, loras: JSON.stringify(${loras}) } },
      });
      console.log(images.length, images[0].mediaType);`,
      files,
    );
    assert.equal(out, "1 image/png\n");
    const asked = collector.spans().flatMap(({ attributes }) => attributes["diffusion.loras"] ?? []);
    assert.deepEqual(asked, Array.from({ length: 3 }, () => ["pixel:0.5", "flat:-1"]).flat());
  });

  const nodeErrors = (url: string, apiKey = "any") => `
    import OpenAI from "openai";
    const openai = new OpenAI({ baseURL: "${url}/v1", apiKey: "${apiKey}", maxRetries: 0 });
    const attempt = (request) => openai.images.generate({ prompt: "a red heart", ...request }).then(
      () => console.log("OK"),
      (error) => console.log(error.constructor.name, error.status, error.param, error.code),
    );`;

  test("openai for Node: errors are its own classes, with the parameter", async (t) => {
    const { url } = await serveOpenAi(t);
    const { out } = await run(
      "mjs",
      `${nodeErrors(url)}
      await attempt({ size: "4096x64" });
      await attempt({ model: "dall-e-3" });
      await attempt({ n: 11 });
      console.log((await openai.models.list()).data.map(({ id }) => id).join());
      console.log((await openai.models.retrieve("local/text-to-image-worker")).id);`,
    );
    assert.deepEqual(out.trim().split("\n"), [
      "BadRequestError 400 size invalid_value",
      "NotFoundError 404 model model_not_found",
      "BadRequestError 400 n invalid_value",
      "local/text-to-image-worker",
      "local/text-to-image-worker",
    ]);
  });

  test("openai for Python: errors are its own classes", async (t) => {
    const { url } = await serveOpenAi(t);
    const { out } = await run(
      "py",
      `
from openai import OpenAI, APIError
openai = OpenAI(base_url="${url}/v1", api_key="any", max_retries=0)
for request in [{"size": "4096x64"}, {"model": "dall-e-3"}]:
    try:
        openai.images.generate(prompt="a red heart", **request)
    except APIError as error:
        print(type(error).__name__, error.status_code, error.param, error.code)
for event in openai.images.generate(prompt="a red heart", stream=True, partial_images=1):
    print(event.type)
`,
    );
    assert.deepEqual(out.trim().split("\n"), [
      "BadRequestError 400 size invalid_value",
      "NotFoundError 404 model model_not_found",
      "image_generation.partial_image",
      "image_generation.completed",
    ]);
  });

  test("429 is obeyed: the client waits as long as the rate limit says, and then succeeds", async (t) => {
    const key = createCallerKey();
    const rate = { perSecond: 2, burst: 1, label: "2 requests a second" };
    const shop = { name: "shop", mayUse: () => true, rate, keys: [hashCallerKey(key)], certificates: [] };
    const { url } = await serveOpenAi(t, {
      serve: { callers: { current: createCallerDirectory([shop]), onChange() {}, close() {} } },
    });
    const program = `
      import OpenAI from "openai";
      const openai = new OpenAI({ baseURL: "${url}/v1", apiKey: "${key}", maxRetries: 1 });
      for (let image = 0; image < 2; image++) {
        const started = performance.now();
        await openai.images.generate({ prompt: "a red heart", num_inference_steps: 1 });
        console.log(Math.round(performance.now() - started));
      }`;
    const { out } = await run("mjs", program);
    // Without the wait, the one retry would be rejected too.
    assert.equal(out.trim().split("\n").length, 2);
    const { out: denied } = await run("mjs", `${nodeErrors(url, "wrong")}\nawait attempt({});`);
    assert.equal(denied.trim(), "AuthenticationError 401 null invalid_api_key");
  });

  test("an abort in openai for Node ends the generation", async (t) => {
    const held = createHeldEngine();
    const { url, collector } = await serveOpenAi(t, { engine: held.engine });
    const signals = createServer((_request, response) => void held.reached.then(() => response.end())).listen(0);
    t.after(() => signals.close());
    await once(signals, "listening");
    const address = signals.address();
    assert.ok(typeof address === "object" && address !== null);
    const program = `
      import OpenAI from "openai";
      const openai = new OpenAI({ baseURL: "${url}/v1", apiKey: "any" });
      const abort = new AbortController();
      fetch("http://127.0.0.1:${address.port}").then(() => abort.abort());
      try {
        const stream = await openai.images.generate({ prompt: "a red heart", stream: true }, { signal: abort.signal });
        for await (const event of stream) console.log(event.type);
      } catch (error) {
        console.log(error.constructor.name);
      }`;
    // The client throws until it has the headers; then its stream ends.
    assert.ok(["", "APIUserAbortError\n"].includes((await run("mjs", program)).out));
    const isRoot = ({ name }: { readonly name: string }) => name === "image-pipeline";
    const spans = await collector.waitFor((all) => all.some(isRoot), AbortSignal.timeout(30_000));
    assert.equal(spans.find(isRoot)?.attributes["rpc.response.status_code"], "CANCELLED");
    assert.equal(held.engine.stepsRun, 1);
  });
});
