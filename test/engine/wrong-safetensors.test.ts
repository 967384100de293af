import assert from "node:assert/strict";
import { readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { startEngineProcess } from "../../src/engine/child/engine-process.js";
import { GenerationError } from "../../src/engine/engine.js";
import { ModelFolderError } from "../../src/engine/folder-reader.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";
import { readSafetensors } from "../../src/engine/weights/safetensors.js";
import { WeightError } from "../../src/engine/weights/tensor-location.js";
import {
  encodeSafetensors,
  type FixtureTensor,
  fixtureTensor,
  writeSafetensors,
} from "../fixtures/safetensors-file.js";
import { makeSafetensorsFolder, makeSingleFile, partTensors } from "../fixtures/safetensors-model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { sharedSessions } from "./shared-sessions.js";

/** The graphs are built but not opened: what is wrong is to be found before. */
const openNone: OpenSession = async () => {
  throw new Error("a graph is opened");
};

/** `file: expected …, found …` of what a load is rejected with. */
async function faultOf(modelFolder: string, openSession: OpenSession = openNone): Promise<string> {
  const error = await loadSdxlEngine({ modelFolder, openSession }).then(
    () => assert.fail("it loads"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ModelFolderError, String(error));
  const { file, expected, found } = error.fault;
  return `${file}: expected ${expected}, found ${found}`;
}

const tensor = (...shape: number[]): FixtureTensor => fixtureTensor("any", shape);
const entry = (dtype: string, shape: readonly number[], from: number, to: number) => ({
  dtype,
  shape,
  data_offsets: [from, to],
});

describe("header of a safetensors file", () => {
  const files: readonly (readonly [what: string, bytes: Buffer, fault: RegExp])[] = [
    ["of no bytes", Buffer.alloc(0), /expected a safetensors file, found 0 bytes/],
    [
      "of 2 GB",
      Buffer.from([0, 0, 0, 0x80, 0, 0, 0, 0, 0x7b]),
      /found a header of 2147483648 bytes, above the format's limit/,
    ],
    [
      "cut off by the end of the file",
      Buffer.from([255, 0, 0, 0, 0, 0, 0, 0, 0x7b]),
      /a header of 255 bytes in a file of 9: the file is cut off/,
    ],
    ["that is no JSON", encodeSafetensors("{nothing"), /found a header that is not one/],
    [
      "with a negative offset",
      encodeSafetensors(JSON.stringify({ a: entry("F32", [1], -4, 0) })),
      /a header that is not one at "a\.data_offsets\.0"/,
    ],
    [
      "whose tensors overlap",
      encodeSafetensors(JSON.stringify({ a: entry("F32", [2], 0, 8), b: entry("F32", [2], 4, 12) }), [
        Buffer.alloc(12),
      ]),
      /expected b behind the tensor before it, found bytes that another tensor has too/,
    ],
    [
      "with a gap between two tensors",
      encodeSafetensors(JSON.stringify({ a: entry("F32", [1], 0, 4), b: entry("F32", [1], 8, 12) }), [
        Buffer.alloc(12),
      ]),
      /expected b behind the tensor before it, found a gap/,
    ],
    [
      "whose shape and bytes differ",
      encodeSafetensors(JSON.stringify({ a: entry("F16", [3], 0, 8) }), [Buffer.alloc(8)]),
      /expected 6 bytes for a, F16 \[3\], found 8 bytes/,
    ],
    [
      "in front of too few bytes",
      encodeSafetensors(JSON.stringify({ a: entry("F32", [4], 0, 16) }), [Buffer.alloc(7)]),
      /: the file is cut off, fetch it again/,
    ],
    [
      "of a PyTorch checkpoint",
      Buffer.from("PK\u0003\u0004 and a zip file"),
      /found a PyTorch checkpoint .* take the \.safetensors form/,
    ],
    ["of a GGUF file", Buffer.from("GGUF\u0003\u0000\u0000\u0000"), /found a GGUF file/],
    [
      "of a Git LFS pointer",
      Buffer.from("version https://git-lfs.github.com/spec/v1\n"),
      /a pointer of Git LFS \(run `git lfs pull`/,
    ],
  ];
  for (const [what, bytes, fault] of files) {
    it(`safetensors header ${what} is rejected`, async () => {
      const path = join(await temporaryFolder(), "a.safetensors");
      await writeFile(path, bytes);
      await assert.rejects(readSafetensors(path, "a.safetensors"), (error) => {
        assert.ok(error instanceof WeightError);
        assert.match(error.message, fault);
        return true;
      });
    });
  }
});

describe("diffusers folder of safetensors", async () => {
  const unetFile = "unet/diffusion_pytorch_model.safetensors";
  const folder = await makeSafetensorsFolder(join(await temporaryFolder(), "xl"), { type: "F16", fewWords: true });

  /** Changes a file for one test, and puts it back. */
  async function withFile(
    file: string,
    change: (path: string) => Promise<void>,
    test: () => Promise<void>,
  ): Promise<void> {
    const path = join(folder, file);
    const bytes = await readFile(path);
    try {
      await change(path);
      await test();
    } finally {
      await writeFile(path, bytes);
    }
  }

  it("truncated download is rejected with the file's name", async () => {
    for (const file of [unetFile, "vae/diffusion_pytorch_model.safetensors", "text_encoder_2/model.safetensors"]) {
      await withFile(
        file,
        async (path) => truncate(path, (await readFile(path)).length - 100),
        async () => assert.match(await faultOf(folder), new RegExp(`^${file}: .*the file is cut off, fetch it again$`)),
      );
    }
  });

  it("folder without a part, or with pickled weights, is rejected", async () => {
    await withFile(
      "text_encoder_2/model.safetensors",
      (path) => rm(path),
      async () => {
        assert.equal(await faultOf(folder), "text_encoder_2/model.safetensors: expected a file, found none");
      },
    );
    await withFile(
      unetFile,
      (path) => rename(path, join(dirname(path), "diffusion_pytorch_model.bin")),
      async () => {
        assert.match(await faultOf(folder), /found unet\/diffusion_pytorch_model\.bin alone, which can hold programs/);
      },
    );
    await rm(join(folder, "unet/diffusion_pytorch_model.bin"));
  });

  const configs: readonly (readonly [file: string, changes: Readonly<Record<string, unknown>>, fault: RegExp])[] = [
    [
      "unet/config.json",
      { class_embed_type: "timestep" },
      /^unet\/config\.json: expected null.* at "class_embed_type", found "timestep"$/,
    ],
    [
      "unet/config.json",
      { brand_new_key: 3 },
      /null, since the engine does not implement this key at "brand_new_key", found 3$/,
    ],
    [
      "unet/config.json",
      { resnet_time_scale_shift: "scale_shift" },
      /at "resnet_time_scale_shift", found "scale_shift"$/,
    ],
    ["unet/config.json", { act_fn: "gelu" }, /at "act_fn", found "gelu"$/],
    ["unet/config.json", { addition_embed_type: "image" }, /at "addition_embed_type", found "image"$/],
    [
      "unet/config.json",
      { down_block_types: ["AttnDownBlock2D"] },
      /at "down_block_types\.0", found "AttnDownBlock2D"$/,
    ],
    [
      "unet/config.json",
      { quantization_config: { quant_method: "bitsandbytes" } },
      /at "quantization_config", found \{/,
    ],
    [
      "unet/config.json",
      { transformer_layers_per_block: [1, 2, 4] },
      /^unet\/.*safetensors: expected a tensor down_blocks\.2\.attentions\.0\.transformer_blocks\.3\.norm1\.weight, found none$/,
    ],
    [
      "unet/config.json",
      { transformer_layers_per_block: [1, 2, 2] },
      /^unet\/.*: expected the tensors of this model and no others, found .*transformer_blocks\.2\..* more$/,
    ],
    [
      "text_encoder/config.json",
      { hidden_act: "relu" },
      /^text_encoder\/config\.json: .* at "hidden_act", found "relu"$/,
    ],
    ["vae/config.json", { act_fn: "relu" }, /^vae\/config\.json: .* at "act_fn", found "relu"$/],
    ["vae/config.json", { spatial_norm: true }, /at "spatial_norm", found true$/],
    ["scheduler/scheduler_config.json", { use_exponential_sigmas: true }, /at "use_exponential_sigmas", found true$/],
    ["model_index.json", { _class_name: "FluxPipeline" }, /^model_index\.json: .*SDXL pipeline.* found FluxPipeline$/],
    ["model_index.json", { _class_name: "StableDiffusion3Pipeline" }, /found StableDiffusion3Pipeline$/],
  ];
  for (const [file, changes, fault] of configs) {
    it(`folder with ${JSON.stringify(changes)} in ${file} is rejected`, async () => {
      await withFile(
        file,
        async (path) => {
          const content: unknown = JSON.parse(await readFile(path, "utf8"));
          await writeFile(path, JSON.stringify(Object.assign({}, content, changes)));
        },
        async () => assert.match(await faultOf(folder), fault),
      );
    });
  }
});

describe("weights that do not fit", async () => {
  const home = await temporaryFolder();
  const folder = await makeSafetensorsFolder(join(home, "xl"), { type: "F16", fewWords: true });
  const unet = join(folder, "unet/diffusion_pytorch_model.safetensors");
  const vae = join(folder, "vae/diffusion_pytorch_model.safetensors");

  /** Changes the UNet's tensors for one test, and puts them back. */
  async function withUnet(change: (tensors: Map<string, FixtureTensor>) => void, test: () => Promise<void>) {
    const tensors = partTensors("unet");
    change(tensors);
    await rename(unet, join(home, "unet"));
    await writeSafetensors(unet, tensors, { type: "F16" });
    await test();
    await rename(join(home, "unet"), unet);
  }

  const changes: readonly (readonly [
    what: string,
    change: (tensors: Map<string, FixtureTensor>) => void,
    fault: RegExp,
  ])[] = [
    [
      "lack a tensor",
      (tensors) => tensors.delete("mid_block.resnets.1.norm2.bias"),
      /expected a tensor mid_block\.resnets\.1\.norm2\.bias, found none$/,
    ],
    [
      "have one too many",
      (tensors) => tensors.set("mid_block.resnets.7.norm2.bias", tensor(4)),
      /the tensors of this model and no others, found mid_block\.resnets\.7\.norm2\.bias$/,
    ],
    [
      "have one of another shape",
      (tensors) => tensors.set("conv_in.weight", tensor(64, 4, 3, 5)),
      /conv_in\.weight of shape \[64,4,3,3\], found \[64,4,3,5\]$/,
    ],
    [
      "have one without values",
      (tensors) => tensors.set("conv_norm_out.bias", tensor(0)),
      /conv_norm_out\.bias of shape \[64\], found \[0\]$/,
    ],
  ];
  for (const [what, change, fault] of changes) {
    it(`weights that ${what} are rejected with the tensor's name`, async () => {
      await withUnet(change, async () => assert.match(await faultOf(folder), fault));
    });
  }

  it("weights of an unsupported type are rejected with the type's name", async () => {
    const bytes = await readFile(vae);
    await writeFile(vae, Buffer.from(bytes.toString("latin1").replaceAll('"F16"', '"I16"'), "latin1"));
    assert.match(await faultOf(folder), /^vae\/.* of type F32, F16, BF16, found I16$/);
    await writeFile(vae, bytes);
  });

  it("weights with NaN or infinities are rejected at warm-up with the tensor's name", async () => {
    // That of the NaN gives none for the infinity either: the tensor is looked for in the file.
    const { openSession, release } = sharedSessions();
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const change = (tensors: Map<string, FixtureTensor>) =>
        void tensors.set("conv_out.bias", { shape: [4], values: Float32Array.of(0, value, 0, 0) });
      await withUnet(change, async () => {
        const engine = await loadSdxlEngine({ modelFolder: folder, openSession });
        await assert.rejects(engine.warmUp(), (error) => {
          assert.ok(error instanceof ModelFolderError, String(error));
          assert.match(
            error.message,
            /unet\/diffusion_pytorch_model\.safetensors: expected numbers in conv_out\.bias, found NaN or an infinity/,
          );
          return true;
        });
        await engine.release();
      });
    }
    await release();
  });

  it("weights replaced while they are opened are rejected", async () => {
    const open = createSessionOpener({ threads: 1 });
    const fault = await faultOf(folder, async (graph) => {
      const session = await open(graph);
      if (graph.subModel === "vae_decoder") {
        await rename(vae, `${vae}.old`);
        await writeFile(vae, await readFile(`${vae}.old`));
      }
      return session;
    });
    assert.match(fault, /^vae\/.*: expected the file that was there when its header was read, found another one$/);
  });

  // The last, since it spoils the folder.
  it("weights truncated during use fail the engine process at most", async () => {
    const engine = await startEngineProcess({ modelFolder: folder, precision: "float16", threads: 1 });
    await truncate(unet, 4096);
    const request = { prompt: "a", seed: 1, steps: 1, width: 32, height: 32 };
    await assert.rejects(engine.generate(request, { signal: new AbortController().signal }), (error) => {
      assert.ok(error instanceof GenerationError && error.kind === "lost", String(error));
      return true;
    });
    assert.match(await engine.exited, /^signal SIG/);
    await assert.rejects(startEngineProcess({ modelFolder: folder }), /the file is cut off, fetch it again/);
  });
});

describe("single .safetensors file", () => {
  const others: readonly (readonly [what: string, tensors: readonly string[], fault: RegExp])[] = [
    ["a LoRA of kohya", ["lora_unet_mid_block.lora_down.weight", "lora_unet_mid_block.alpha"], /found a LoRA/],
    ["a LoRA of PEFT", ["unet.mid_block.attentions.0.to_q.lora_A.weight"], /found a LoRA/],
    ["a LoHa", ["lora_unet_mid_block.hada_w1_a"], /found a LoRA/],
    ["an embedding", ["clip_g", "clip_l"], /found a textual inversion/],
    ["a ControlNet", ["control_model.input_blocks.0.0.weight"], /found a ControlNet/],
    [
      "Stable Diffusion 1.5",
      [
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "model.diffusion_model.input_blocks.0.0.weight",
      ],
      /a Stable Diffusion 1 or 2 checkpoint/,
    ],
    [
      "Stable Diffusion 3",
      ["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"],
      /a Stable Diffusion 3 checkpoint/,
    ],
    ["Flux", ["double_blocks.0.img_attn.qkv.weight"], /a Flux checkpoint/],
    [
      "the refiner",
      ["conditioner.embedders.0.model.ln_final.weight", "model.diffusion_model.label_emb.0.0.weight"],
      /the SDXL refiner/,
    ],
    ["Playground 2.5", ["edm_mean", "model.diffusion_model.label_emb.0.0.weight"], /a Playground 2\.5 checkpoint/],
    [
      "one part of a folder",
      ["down_blocks.0.resnets.0.conv1.weight"],
      /one part of a diffusers folder; give the folder/,
    ],
    ["something else", ["some.tensor"], /tensors that no SDXL checkpoint has, such as some\.tensor/],
  ];
  for (const [what, names, fault] of others) {
    it(`file that is ${what} is rejected as such`, async () => {
      const path = join(await temporaryFolder(), "given.safetensors");
      await writeSafetensors(path, new Map(names.map((name) => [name, tensor(4)])));
      const found = await faultOf(path);
      assert.match(found, /^given\.safetensors: expected an SDXL checkpoint, found /);
      assert.match(found, fault);
    });
  }

  it("SDXL file without its VAE, for inpainting, or with an extra tensor is rejected", async () => {
    const home = await temporaryFolder();
    const faultWith = async (change: (tensors: Map<string, FixtureTensor>) => void): Promise<string> =>
      faultOf(await makeSingleFile(join(home, "given.safetensors"), { type: "F16", change }));
    const noVae = (tensors: Map<string, FixtureTensor>): void => {
      for (const name of [...tensors.keys()].filter((key) => key.startsWith("first_stage_model."))) {
        tensors.delete(name);
      }
    };
    assert.match(await faultWith(noVae), /found one without the VAE \(no tensor first_stage_model\./);
    const inpainting = await faultWith((tensors) =>
      tensors.set("model.diffusion_model.input_blocks.0.0.weight", tensor(64, 9, 3, 3)),
    );
    assert.match(inpainting, /found a UNet of 9 input channels, which edits images/);
    const extra = await faultWith((tensors) => tensors.set("model.diffusion_model.middle_block.5.bias", tensor(4)));
    assert.match(extra, /the tensors of this model and no others, found model\.diffusion_model\.middle_block\.5\.bias/);
    const other = await faultWith((tensors) => tensors.set("denoiser.sigmas", tensor(4)));
    assert.match(other, /a graph is opened/, "tensors of no part are left alone");
  });
});
