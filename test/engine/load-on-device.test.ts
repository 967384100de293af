import assert from "node:assert/strict";
import { copyFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { type Device, describePlacement } from "../../src/engine/device.js";
import { ModelFolderError } from "../../src/engine/folder-reader.js";
import { subModelFolders } from "../../src/engine/graph-files.js";
import { type DeviceFailure, type DeviceLoadOptions, loadOnDevice } from "../../src/engine/load-on-device.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce } from "./generate-once.js";

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

  it("loadOnDevice writes a profile per session, complete after release", async () => {
    const profileFolder = await temporaryFolder();
    const { engine } = await loadOnDevice({ modelFolder, threads: 1, profileFolder });
    await engine.release();
    const files = (await readdir(profileFolder)).map((name) => name.replace(/_\d{4}-.*$/, ""));
    assert.deepEqual(files.sort(), [...subModelFolders].sort());
  });
});
