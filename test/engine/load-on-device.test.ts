import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { before, describe, it } from "node:test";
import {
  type Device,
  describePlacement,
  type ExecutionProvider,
  parseDevice,
  placementsFor,
  remedyFor,
} from "../../src/engine/device.js";
import { ModelFolderError } from "../../src/engine/folder-reader.js";
import { chooseGraphs, type Precision, subModelFolders } from "../../src/engine/graph-files.js";
import { type DeviceFailure, type DeviceLoadOptions, loadOnDevice } from "../../src/engine/load-on-device.js";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener, type SessionOptions } from "../../src/engine/sessions-onnx.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce } from "./generate-once.js";

describe("placementsFor", () => {
  it("auto tries the platform's devices, fastest first and CPU last", () => {
    const tried = (...listed: string[]) => placementsFor("auto", listed).map(({ provider }) => provider);
    assert.deepEqual(tried("cpu", "webgpu", "cuda", "tensorrt"), ["cuda", "webgpu", "cpu"]);
    assert.deepEqual(tried("cpu", "webgpu", "coreml"), ["coreml", "webgpu", "cpu"]);
    assert.deepEqual(tried("cpu", "dml", "webgpu"), ["dml", "webgpu", "cpu"]);
    assert.deepEqual(tried("cpu"), ["cpu"]);
    assert.deepEqual(tried(), ["cpu"]);
  });

  it("named device is the only one tried, listed or not", () => {
    assert.deepEqual(placementsFor("tensorrt", ["cpu"]), [{ provider: "tensorrt" }]);
    assert.deepEqual(placementsFor("cuda:1", ["cpu", "cuda"]), [{ provider: "cuda", index: 1 }]);
    assert.deepEqual(placementsFor("cpu", ["cpu", "cuda"]), [{ provider: "cpu" }]);
  });
});

describe("parseDevice", () => {
  it("parseDevice accepts names, and numbers for devices that support them", () => {
    for (const text of ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "tensorrt:1", "webgpu", "coreml", "dml:2"]) {
      assert.equal(parseDevice(text), text);
    }
    for (const text of ["", "gpu", "CPU", "cpu:0", "webgpu:1", "cuda:", "cuda:-1", "cuda:1.5", "cuda:123", "auto:1"]) {
      assert.equal(parseDevice(text), undefined, text);
    }
  });
});

describe("remedyFor", () => {
  it("remedyFor suggests no installation that the platform does not have", () => {
    assert.match(remedyFor("cuda", "linux"), /ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node/);
    assert.doesNotMatch(remedyFor("cuda", "darwin"), /install/);
    assert.match(remedyFor("coreml", "linux"), /macOS only/);
    assert.match(remedyFor("dml", "darwin"), /Windows only/);
  });
});

const heart = { prompt: "a red heart", seed: 7, steps: 1 };
/** What is open and not released. */
let open = 0;

/** Real sessions on the CPU that stand for those of any provider. Those of some devices fail when they are opened, of others when they run. */
function openers(faults: Readonly<Record<string, "open" | "run">>): NonNullable<DeviceLoadOptions["createOpener"]> {
  return ({ placement }) => {
    const device = describePlacement(placement ?? { provider: "cpu" });
    const openReal = createSessionOpener({ threads: 1 });
    return async (graph) => {
      // Not the first graph, so that there is something to release.
      if (faults[device] === "open" && graph.subModel === "unet") {
        throw new Error(`${device} has no memory for ${graph.subModel}`);
      }
      const session = await openReal(graph);
      open++;
      return {
        ...session,
        run: async (feeds, wanted) => {
          if (faults[device] === "run") {
            throw new Error(`${device} cannot run`);
          }
          return session.run(feeds, wanted);
        },
        async release() {
          open--;
          await session.release();
        },
      };
    };
  };
}

describe("loadOnDevice", async () => {
  const modelFolder = await temporaryFolder();
  before(() => makeSdxlFolder(modelFolder));
  const providers = ["cpu", "webgpu", "cuda"];

  async function load(device: Device, faults: Parameters<typeof openers>[0] = {}) {
    const failures: DeviceFailure[] = [];
    const loaded = await loadOnDevice({
      modelFolder,
      device,
      providers,
      createOpener: openers(faults),
      onFailure: (failure) => failures.push(failure),
    });
    const { executionProvider } = loaded.engine.info;
    assert.ok((await generateOnce(loaded.engine, heart)).pixels.data.length > 0);
    await loaded.engine.release();
    return { executionProvider, tried: failures.map(({ device: failed, reason }) => `${failed}: ${reason}`) };
  }

  it("loadOnDevice uses the first available device and reports it", async () => {
    assert.deepEqual(await load("auto"), { executionProvider: "cuda", tried: [] });
    assert.deepEqual(await load("cpu"), { executionProvider: "cpu", tried: [] });
    assert.deepEqual(await load("cuda:1", { cuda: "open" }), { executionProvider: "cuda", tried: [] });
  });

  it("loadOnDevice skips devices that cannot be opened or cannot run, with each reason", async () => {
    assert.deepEqual(await load("auto", { cuda: "open" }), {
      executionProvider: "webgpu",
      tried: ["cuda: cuda has no memory for unet"],
    });
    const both = await load("auto", { cuda: "open", webgpu: "run" });
    assert.equal(both.executionProvider, "cpu");
    assert.deepEqual(both.tried, ["cuda: cuda has no memory for unet", "webgpu: webgpu cannot run"]);
    assert.equal(open, 0, "sessions of a place given up are released");
  });

  it("loadOnDevice does not fall back from a named device", async () => {
    const expected =
      /^Error: device cuda:1 cannot be used: cuda:1 has no memory for unet; .*--device (?:cpu|webgpu|dml)/;
    await assert.rejects(load("cuda:1", { "cuda:1": "open" }), expected);
    await assert.rejects(
      load("webgpu", { webgpu: "run" }),
      /^Error: device webgpu cannot be used: webgpu cannot run; /,
    );
    assert.equal(open, 0);
  });

  it("loadOnDevice reports onnxruntime's message for a provider that the platform does not have", async () => {
    for (const device of process.platform === "linux" ? (["coreml", "dml"] as const) : (["tensorrt"] as const)) {
      await assert.rejects(loadOnDevice({ modelFolder, device }), (error) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, new RegExp(`^device ${device} cannot be used: .*backend not found.*; .*--device`));
        return true;
      });
    }
  });

  it("loadOnDevice reports an invalid folder as such and not as a device failure", async () => {
    const wrong = await makeSdxlFolder(await temporaryFolder());
    await rm(join(wrong, "vae_decoder/model.onnx"));
    const failures: DeviceFailure[] = [];
    const onFailure = (failure: DeviceFailure) => failures.push(failure);
    const options = { device: "auto", providers, createOpener: openers({}), onFailure } as const;
    await assert.rejects(loadOnDevice({ modelFolder: wrong, ...options }), ModelFolderError);
    await writeFile(join(wrong, "unet/config.json"), "{");
    await assert.rejects(loadOnDevice({ modelFolder: wrong, ...options }), /unet\/config.json: expected JSON/);
    assert.deepEqual(failures, []);
    assert.equal(open, 0);
  });

  it("loadOnDevice runs half-precision exports on a GPU except for the VAE", async () => {
    const folder = await makeSdxlFolder(await temporaryFolder());
    const other = await makeSdxlFolder(await temporaryFolder(), { floatType: "float16" });
    for (const subModel of subModelFolders) {
      await copyFile(join(other, subModel, "model.onnx"), join(folder, subModel, "model_fp16.onnx"));
    }
    const graphsOn = async (device: Device) => {
      const { engine } = await loadOnDevice({ modelFolder: folder, device, createOpener: openers({}) });
      await engine.release();
      return [engine.graphs.unet, engine.graphs.vae_decoder];
    };
    assert.deepEqual(await graphsOn("cuda"), ["unet/model_fp16.onnx", "vae_decoder/model.onnx"]);
    assert.deepEqual(await graphsOn("cpu"), ["unet/model.onnx", "vae_decoder/model.onnx"]);
  });

  it("loadOnDevice takes float32 on a device without half precision, unless half precision was asked for", async () => {
    const folder = await makeSdxlFolder(await temporaryFolder());
    const other = await makeSdxlFolder(await temporaryFolder(), { floatType: "float16" });
    await copyFile(join(other, "unet/model.onnx"), join(folder, "unet/model_fp16.onnx"));
    const cpu = openers({});
    const options = {
      modelFolder: folder,
      device: "webgpu",
      createOpener: (session: SessionOptions): OpenSession => {
        const openReal = cpu(session);
        return async (graph) => {
          if (graph.file.includes("fp16")) {
            throw new Error("shader_helper.cc:416 Program Transpose requires f16 but the device does not support it.");
          }
          return openReal(graph);
        };
      },
    } as const;
    const { engine } = await loadOnDevice(options);
    assert.deepEqual([engine.info.executionProvider, engine.graphs.unet], ["webgpu", "unet/model.onnx"]);
    await engine.release();
    const expected =
      /^Error: device webgpu cannot be used: .* requires f16 .*; take --precision float32, or --device cpu$/;
    await assert.rejects(loadOnDevice({ ...options, precision: "float16" }), expected);
    await rm(join(folder, "unet/model.onnx"));
    await assert.rejects(loadOnDevice(options), expected);
    assert.equal(open, 0);
  });

  it("loadOnDevice writes a profile per session, complete after release", async () => {
    const profileFolder = await temporaryFolder();
    const { engine } = await loadOnDevice({ modelFolder, threads: 1, profileFolder });
    await engine.release();
    const files = (await readdir(profileFolder)).map((name) => name.replace(/_\d{4}-.*$/, ""));
    assert.deepEqual(files.sort(), [...subModelFolders].sort());
  });
});

const plain = subModelFolders.map((folder) => `${folder}/model.onnx`);
const half = subModelFolders.map((folder) => `${folder}/model_fp16.onnx`);
const [halfUnet = "", plainDecoder = ""] = [half[2], plain[3]];

/** What is chosen of a folder of empty files: their names alone decide. */
async function choose(
  files: readonly string[],
  options: { readonly provider: ExecutionProvider; readonly precision?: Precision; readonly forceUpcast?: boolean },
): Promise<string[]> {
  const path = await temporaryFolder();
  for (const file of files) {
    await mkdir(join(path, dirname(file)), { recursive: true });
    await writeFile(join(path, file), "");
  }
  const { provider, precision = "auto", forceUpcast = true } = options;
  return Object.values(await chooseGraphs({ path, vae: { force_upcast: forceUpcast } }, { provider, precision }));
}

describe("chooseGraphs", () => {
  const both = [...plain, ...half];
  const mixed = [...half.slice(0, 3), plainDecoder];

  it("chooseGraphs uses half precision on a GPU and the plain export on the CPU", async () => {
    assert.deepEqual(await choose(both, { provider: "cuda", forceUpcast: false }), half);
    assert.deepEqual(await choose(both, { provider: "webgpu", forceUpcast: false }), half);
    assert.deepEqual(await choose(both, { provider: "cpu", forceUpcast: false }), plain);
  });

  it("chooseGraphs keeps a VAE that overflows in float32 beside a half-precision UNet", async () => {
    assert.deepEqual(await choose(both, { provider: "cuda" }), mixed);
    assert.deepEqual(await choose(both, { provider: "cpu", precision: "float16" }), mixed);
    assert.deepEqual(await choose(half, { provider: "cuda" }), half);
  });

  it("chooseGraphs uses the other precision when only one exists", async () => {
    assert.deepEqual(await choose(half, { provider: "cpu" }), half);
    assert.deepEqual(await choose(plain, { provider: "cuda" }), plain);
    const expected = [plain[0], plain[1], halfUnet, plainDecoder];
    assert.deepEqual(await choose([...plain, halfUnet], { provider: "cuda" }), expected);
  });

  it("chooseGraphs follows the requested precision or names the missing file", async () => {
    assert.deepEqual(await choose(both, { provider: "cuda", precision: "float32" }), plain);
    const missing = (file: string) => (error: unknown) =>
      error instanceof ModelFolderError && error.fault.file === file;
    await assert.rejects(choose(half, { provider: "cuda", precision: "float32" }), missing("text_encoder/model.onnx"));
    await assert.rejects(choose(plain, { provider: "cpu", precision: "float16" }), missing("unet/model_fp16.onnx"));
    await assert.rejects(choose(plain.slice(0, 2), { provider: "cpu" }), missing("unet/model.onnx"));
  });
});
