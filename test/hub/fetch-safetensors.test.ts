import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { describe, it } from "node:test";
import { type FetchModelOptions, fetchModel } from "../../src/hub/fetch-model.js";
import { HubError } from "../../src/hub/hub-fetch.js";
import { parseModelId } from "../../src/hub/model-id.js";
import { externalDataFiles } from "../../src/hub/sdxl-files.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { type HubServer, startHub } from "../support/hub-server.js";

const small = [
  "model_index.json",
  "scheduler/scheduler_config.json",
  ...["tokenizer", "tokenizer_2"].flatMap((folder) =>
    ["tokenizer_config.json", "vocab.json", "merges.txt"].map((file) => `${folder}/${file}`),
  ),
  ...["text_encoder", "text_encoder_2", "unet", "vae"].map((part) => `${part}/config.json`),
];
const weights = (infix: string): readonly string[] => [
  `text_encoder/model${infix}.safetensors`,
  `text_encoder_2/model${infix}.safetensors`,
  `unet/diffusion_pytorch_model${infix}.safetensors`,
  `vae/diffusion_pytorch_model${infix}.safetensors`,
];
/** What Stability's repository has besides. */
const besides = [
  "unet/model.onnx",
  "unet/openvino_model.bin",
  "vae_1_0/diffusion_pytorch_model.safetensors",
  "sd_xl_base_1.0.safetensors",
  "sd_xl_offset_example-lora_1.0.safetensors",
  "README.md",
];

describe("repository with safetensors", () => {
  async function repository(
    files: readonly string[],
    contents: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const folder = join(await temporaryFolder(), "repository");
    for (const file of files) {
      await mkdir(dirname(join(folder, file)), { recursive: true });
      await writeFile(join(folder, file), contents[file] ?? `bytes of ${file}`);
    }
    return folder;
  }

  async function fetched(server: HubServer, id: string, cacheFolder: string, options: Partial<FetchModelOptions> = {}) {
    const model = parseModelId(id);
    assert.ok(model !== undefined, id);
    return fetchModel({
      model,
      cacheFolder,
      endpoint: server.url,
      timeouts: { attempts: 1, retryMs: 1, staleMs: 100 },
      ...options,
    });
  }

  const resolved = (server: HubServer): string[] =>
    server.requests.flatMap(
      ({ host, path }) => /^hub .*\/resolve\/[0-9a-f]+\/(.*)$/.exec(`${host} ${path}`)?.[1] ?? [],
    );

  async function failure(fetching: Promise<unknown>): Promise<HubError> {
    const error = await fetching.then(
      () => assert.fail("it was fetched"),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof HubError, String(error));
    return error;
  }

  it("half-precision safetensors are downloaded alone, and need no network the second time", async () => {
    const server = await startHub({
      folder: await repository([...small, ...weights(""), ...weights(".fp16"), ...besides]),
    });
    const cache = await temporaryFolder();
    const folder = await fetched(server, "acme/tiny-xl", cache);
    assert.deepEqual(resolved(server).sort(), [...small, ...weights(".fp16")].sort());
    assert.equal(
      await readFile(join(folder, "unet/diffusion_pytorch_model.fp16.safetensors"), "utf8"),
      "bytes of unet/diffusion_pytorch_model.fp16.safetensors",
    );
    await server.close();
    assert.equal(await fetched(server, "acme/tiny-xl", cache, { offline: true }), folder);
    await rm(join(folder, "vae/config.json"));
    const error = await failure(fetched(server, "acme/tiny-xl", cache, { offline: true }));
    assert.match(error.message, /vae\/config\.json missing in/);
  });

  it("full precision is downloaded when it is the only one, with the shards of an index", async () => {
    const index = "unet/diffusion_pytorch_model.safetensors.index.json";
    const shards = ["unet/part-1.safetensors", "unet/part-2.safetensors"];
    const files = [...small, ...weights("").filter((file) => !file.startsWith("unet")), index, ...shards];
    const map = JSON.stringify({
      weight_map: { a: "part-1.safetensors", b: "part-2.safetensors", c: "part-1.safetensors" },
    });
    const server = await startHub({ folder: await repository(files, { [index]: map }) });
    const cache = await temporaryFolder();
    const folder = await fetched(server, "acme/tiny-xl", cache);
    assert.deepEqual(resolved(server).sort(), [...files].sort());
    await rm(join(folder, shards[1] ?? ""));
    const error = await failure(fetched(server, "acme/tiny-xl", cache, { offline: true }));
    assert.match(error.message, /unet\/part-2\.safetensors missing in/);
  });

  it("index that leads out of its folder is rejected", async () => {
    const index = "unet/diffusion_pytorch_model.safetensors.index.json";
    const files = [...small, ...weights("").filter((file) => !file.startsWith("unet")), index];
    const map = JSON.stringify({ weight_map: { a: "../../../etc/passwd.safetensors" } });
    const server = await startHub({ folder: await repository(files, { [index]: map }) });
    const error = await failure(fetched(server, "acme/tiny-xl", await temporaryFolder()));
    assert.equal(error.kind, "unusable");
    assert.match(error.message, /wants weights outside its folder/);
  });

  it("single file named in the id is downloaded, with and without a revision", async () => {
    const server = await startHub({ folder: await repository([...besides, "sub folder/x.safetensors"]) });
    const cache = await temporaryFolder();
    for (const id of [
      "acme/tiny-xl:sd_xl_base_1.0.safetensors",
      `acme/tiny-xl@${server.commit}:sub folder/x.safetensors`,
    ]) {
      const file = await fetched(server, id, cache);
      assert.equal(await readFile(file, "utf8"), `bytes of ${id.slice(id.indexOf(":") + 1)}`);
      assert.match(relative(cache, file), /^models--acme--tiny-xl\/snapshots\/[0-9a-f]{40}\//);
      assert.equal(await fetched(server, id, cache, { offline: true }), file);
    }
    const missing = await failure(fetched(server, "acme/tiny-xl:other.safetensors", cache));
    assert.equal(missing.kind, "not-found");
    assert.match(
      missing.message,
      /tiny-xl: other\.safetensors: the repository has no such file; it has .*sd_xl_base_1\.0\.safetensors/,
    );
  });

  it("repository of single files is rejected with their names", async () => {
    const server = await startHub({ folder: await repository(["juggernaut.safetensors", "README.md"]) });
    const error = await failure(fetched(server, "acme/tiny-xl", await temporaryFolder()));
    assert.equal(error.kind, "unusable");
    assert.match(error.message, /name one of its checkpoints, as in acme\/tiny-xl:juggernaut\.safetensors/);
  });

  it("file name in a model id cannot lead outside the cache", () => {
    for (const id of ["a/b:../c.safetensors", "a/b:/c.safetensors", "a/b:c\\d.safetensors", "a/b:c.onnx", "a/b:"]) {
      assert.equal(parseModelId(id), undefined, id);
    }
  });
});

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

it("external data files of a graph are listed", async () => {
  const folder = await makeSdxlFolder(await temporaryFolder(), { dataFile: "parts/weights.pb", leaveOut: [] });
  const namesOf = async (file: string) => [...(await externalDataFiles(join(folder, file), file))];
  assert.deepEqual(await namesOf("unet/model.onnx"), ["unet/parts/weights.pb"]);
  assert.deepEqual(await namesOf("text_encoder/model.onnx"), [], "its weights are inside");
});

it("truncated or invalid graph is rejected", async () => {
  const folder = await makeSdxlFolder(await temporaryFolder());
  const file = join(folder, "vae_decoder/model.onnx");
  const bytes = await readFile(file);
  await writeFile(file, bytes.subarray(0, bytes.length - 100));
  await assert.rejects(externalDataFiles(file, "vae_decoder/model.onnx"), /ends too early/);
  await writeFile(file, "version https://git-lfs.github.com/spec/v1\n");
  await assert.rejects(externalDataFiles(file, "vae_decoder/model.onnx"), /no protobuf message|ends too early/);
});

it("graph with weights outside its folder is rejected", async () => {
  const folder = await temporaryFolder();
  const file = join(folder, "model.onnx");
  const field = (number: number, content: Buffer): Buffer =>
    Buffer.concat([Buffer.from([number * 8 + 2, content.length]), content]);
  for (const location of ["../model.onnx_data", "/etc/weights", "..\\weights", "a//b", "a\0b", ""]) {
    const entry = field(13, Buffer.concat([field(1, Buffer.from("location")), field(2, Buffer.from(location))]));
    await writeFile(file, field(7, field(5, entry)));
    await assert.rejects(externalDataFiles(file, "unet/model.onnx"), /wants weights outside its folder, at "/);
  }
});
