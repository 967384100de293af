import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import * as z from "zod";
import type { SubModelFolder } from "../../../src/engine/graph-files.js";
import { buildClip } from "../../../src/engine/graphs/clip.js";
import {
  type BuiltGraph,
  createGraphBuilder,
  type GraphBuilder,
  type GraphOptions,
} from "../../../src/engine/graphs/graph-builder.js";
import { operatorsFor } from "../../../src/engine/graphs/operators.js";
import { clipPlanSchema, unetPlanSchema, vaePlanSchema } from "../../../src/engine/graphs/plan-config.js";
import { buildUnet } from "../../../src/engine/graphs/unet.js";
import { buildVaeDecoder, buildVaeEncoder } from "../../../src/engine/graphs/vae.js";
import type { InputTensor, ModelSession } from "../../../src/engine/sessions.js";
import { createSessionOpener } from "../../../src/engine/sessions-onnx.js";
import { readDiffusersWeights } from "../../../src/engine/weights/diffusers-weights.js";
import { readSafetensors } from "../../../src/engine/weights/safetensors.js";
import { readSingleFile } from "../../../src/engine/weights/single-file.js";
import { checkNothingLeft, type WeightSource } from "../../../src/engine/weights/tensor-location.js";
import { floatsFromBase64 } from "../../fixtures/golden-file.js";
import { fixtureNoise, writeSafetensors } from "../../fixtures/safetensors-file.js";
import {
  type FixturePart,
  graphGoldens,
  makeSafetensorsFolder,
  makeSingleFile,
  partTensors,
} from "../../fixtures/safetensors-model.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";

const { configs, ids } = graphGoldens;
type Packed = { readonly shape: readonly number[]; readonly float32: string };

/** Largest difference to torch, in parts of the largest value or of 1. */
function distance(values: Float32Array, expected: Packed): number {
  const wanted = floatsFromBase64(expected.float32);
  const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  return wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - (values[i] ?? Number.NaN))), 0) / largest;
}

/** What a graph is made for. */
type GraphKind = Partial<Pick<GraphOptions, "compute" | "operators">>;

async function open(
  subModel: SubModelFolder,
  weights: WeightSource,
  build: (g: GraphBuilder) => BuiltGraph,
  { compute = "float32", operators = operatorsFor("cpu") }: GraphKind = {},
): Promise<ModelSession> {
  const built = build(createGraphBuilder({ weights, compute, root: "/", operators }));
  checkNothingLeft(weights, built.used, /(?:^|\.)(?:(?:en|de)coder|(?:post_)?quant_conv)\./);
  const session = await createSessionOpener({ threads: 1 })({
    kind: "built",
    subModel,
    file: weights.label,
    model: built.model,
    root: "/",
    residence: "mapped",
  });
  after(() => session.release());
  return session;
}

function parse<S extends z.ZodType>(schema: S, config: unknown): z.output<S> {
  return schema.parse(config);
}

type Feeds = Readonly<Record<string, InputTensor>>;

function unetFeeds(name: string, config: Readonly<Record<string, unknown>>): Feeds {
  const number = (key: string): number => Number(config[key]);
  const pooled = number("projection_class_embeddings_input_dim") - 6 * number("addition_time_embed_dim");
  const guidance = config["time_cond_proj_dim"];
  return {
    sample: fixtureNoise(`${name}.sample`, [2, number("in_channels"), 16, 8]),
    timestep: { data: [501], shape: [1] },
    encoder_hidden_states: fixtureNoise(`${name}.hidden`, [2, 77, number("cross_attention_dim")]),
    text_embeds: fixtureNoise(`${name}.pooled`, [2, pooled]),
    time_ids: { data: [128, 64, 0, 0, 128, 64, 128, 64, 0, 0, 128, 64], shape: [2, 6] },
    ...(typeof guidance === "number" && { timestep_cond: fixtureNoise(`${name}.guidance`, [2, guidance]) }),
  };
}

type Part = FixturePart;
type Sources = Readonly<Record<Part, WeightSource>>;
const allParts: readonly Part[] = ["text_encoder", "text_encoder_2", "unet", "vae"];

/** Runs the graphs of parts over the weights of one form and compares with torch. */
async function compare(sources: Partial<Sources>, parts: readonly Part[], tolerance = 1e-5, kind: GraphKind = {}) {
  const run = async (session: ModelSession, feeds: Feeds, outputs: Readonly<Record<string, Packed>>) => {
    const read = await session.run(feeds, Object.keys(outputs));
    for (const [name, expected] of Object.entries(outputs)) {
      const off = distance(read(name).data, expected);
      assert.ok(off <= tolerance, `${name}: off by ${off}`);
    }
  };
  const weightsOf = (part: Part): WeightSource => sources[part] ?? assert.fail(`the ${part} is not read`);
  const tokens = { input_ids: { data: ids.flat(), shape: [2, 77] } };
  const runs: Readonly<Record<Part, () => Promise<void>>> = {
    async text_encoder() {
      const plan = parse(clipPlanSchema, configs.text_encoder);
      const session = await open("text_encoder", weightsOf("text_encoder"), (g) => buildClip(g, plan), kind);
      await run(session, tokens, { "hidden_states.2": graphGoldens.text_encoder });
    },
    async text_encoder_2() {
      const plan = parse(clipPlanSchema, configs.text_encoder_2);
      const session = await open("text_encoder_2", weightsOf("text_encoder_2"), (g) => buildClip(g, plan), kind);
      const outputs = { "hidden_states.3": graphGoldens.text_encoder_2, text_embeds: graphGoldens.text_embeds };
      await run(session, tokens, outputs);
    },
    async unet() {
      const plan = parse(unetPlanSchema, configs.unet);
      const session = await open("unet", weightsOf("unet"), (g) => buildUnet(g, plan), kind);
      await run(session, unetFeeds("unet", configs.unet), { out_sample: graphGoldens.unet });
    },
    async vae() {
      const plan = parse(vaePlanSchema, configs.vae);
      const decoder = await open("vae_decoder", weightsOf("vae"), (g) => buildVaeDecoder(g, plan), kind);
      await run(decoder, { latent_sample: fixtureNoise("latent", [1, 4, 8, 4]) }, { sample: graphGoldens.decoded });
      const encoder = await open("vae_decoder", weightsOf("vae"), (g) => buildVaeEncoder(g, plan), kind);
      const outputs = { latent_parameters: graphGoldens.moments };
      await run(encoder, { sample: fixtureNoise("image", [1, 3, 64, 32]) }, outputs);
    },
  };
  for (const part of parts) {
    await runs[part]();
  }
}

async function smallSources(folder: string, half = false): Promise<Omit<Sources, "unet">> {
  return {
    vae: await readDiffusersWeights(folder, "vae", half),
    text_encoder: await readDiffusersWeights(folder, "text_encoder", half),
    text_encoder_2: await readDiffusersWeights(folder, "text_encoder_2", half),
  };
}

async function folderSources(folder: string): Promise<Sources> {
  return { unet: await readDiffusersWeights(folder, "unet", false), ...(await smallSources(folder)) };
}

describe("graphs built over safetensors, compared with torch", async () => {
  const home = await temporaryFolder();
  const halfFolder = await makeSafetensorsFolder(join(home, "half"), { type: "F16" });

  // The UNet takes most of the time to open, and has no kind of weight that the others do not have.
  const smallParts = ["text_encoder", "text_encoder_2", "vae"] as const;
  const forms = [
    ["float32", { type: "F32" }, allParts],
    ["the fp16 variant", { type: "F16", variant: "fp16" }, smallParts],
    ["bfloat16", { type: "BF16" }, smallParts],
    ["three shards", { type: "F16", shards: 3 }, smallParts],
    ["three shards of the fp16 variant", { type: "F16", shards: 3, variant: "fp16" }, smallParts],
    ["unaligned values", { type: "F16", padding: 3 }, smallParts],
  ] as const;
  for (const [what, options, parts] of forms) {
    it(`${what} of a diffusers folder give torch's values`, async () => {
      const folder = await makeSafetensorsFolder(join(home, what), { ...options, parts });
      const sources = parts === allParts ? folderSources(folder) : smallSources(folder, "variant" in options);
      await compare(await sources, parts);
    });
  }

  it("single-file checkpoint gives torch's values", async () => {
    const file = await makeSingleFile(join(home, "single.safetensors"), { type: "F16" });
    await compare((await readSingleFile(file)).weights, allParts);
  });

  it("half-precision graphs give torch's values within their precision", async () => {
    await compare(await folderSources(halfFolder), allParts, 2e-2, { compute: "float16" });
  });

  it("graphs made of the operators of other providers give torch's values", async () => {
    const sources = await folderSources(halfFolder);
    // These two have every form that differs from the CPU's.
    await compare(sources, allParts, 1e-5, { operators: operatorsFor("coreml") });
    await compare(sources, ["text_encoder_2", "unet"], 1e-5, { operators: operatorsFor("dml") });
    await compare(sources, smallParts, 2e-2, { compute: "float16", operators: operatorsFor("coreml") });
  });

  it("run over mapped half-precision weights casts each shortly before its use, never many at once", async () => {
    const weights = await readDiffusersWeights(halfFolder, "text_encoder_2", false);
    const { model } = buildClip(
      createGraphBuilder({ weights, compute: "float32", root: "/" }),
      parse(clipPlanSchema, configs.text_encoder_2),
    );
    const profileFolder = await temporaryFolder();
    const session = await createSessionOpener({ threads: 1, profileFolder })({
      ...{ kind: "built", subModel: "text_encoder_2", file: weights.label, model, root: "/", residence: "mapped" },
    });
    await session.run({ input_ids: { data: ids.flat(), shape: [2, 77] } }, ["text_embeds"]);
    await session.release();
    const [profile = ""] = await readdir(profileFolder);
    const operators = z
      .array(z.object({ name: z.string(), args: z.object({ op_name: z.string().optional() }).optional() }))
      .parse(JSON.parse(await readFile(join(profileFolder, profile), "utf8")))
      .flatMap(({ name, args }) => (name.endsWith("_kernel_time") ? [args?.op_name ?? ""] : []));
    const casts = operators.map((operator) => (operator === "Cast" ? "c" : "-")).join("");
    assert.ok(casts.split("c").length > 20, "weights are cast");
    // A layer's weight and bias, and those of the norm before it.
    assert.doesNotMatch(casts, /c{5}/);
  });

  it("graphs for TensorRT and CoreML have no operators of onnxruntime's own", async () => {
    const sources = await folderSources(halfFolder);
    for (const provider of ["tensorrt", "coreml"] as const) {
      const options = { compute: "float16", root: "/", operators: operatorsFor(provider) } as const;
      const graphs = [
        buildClip(
          createGraphBuilder({ weights: sources.text_encoder, ...options }),
          parse(clipPlanSchema, configs.text_encoder),
        ),
        buildUnet(createGraphBuilder({ weights: sources.unet, ...options }), parse(unetPlanSchema, configs.unet)),
        buildVaeDecoder(createGraphBuilder({ weights: sources.vae, ...options }), parse(vaePlanSchema, configs.vae)),
      ];
      for (const { model } of graphs) {
        const text = Buffer.from(model).toString("latin1");
        // Once: the list of the operator sets that the model may use.
        assert.equal(text.split("com.microsoft").length - 1, 1, provider);
      }
    }
  });

  it("text encoders without the prefix text_model (transformers 5) give torch's values", async () => {
    const folder = await makeSafetensorsFolder(join(home, "plain"), {
      parts: smallParts,
      change(part, tensors) {
        if (part === "text_encoder") {
          for (const [name, tensor] of [...tensors]) {
            tensors.delete(name);
            tensors.set(name.replace("text_model.", ""), tensor);
          }
        }
      },
    });
    await compare(await smallSources(folder), ["text_encoder"]);
  });

  it("VAE with the older attention names gives torch's values", async () => {
    const older: Readonly<Record<string, string>> = {
      to_q: "query",
      to_k: "key",
      to_v: "value",
      "to_out.0": "proj_attn",
    };
    const folder = await makeSafetensorsFolder(join(home, "older"), {
      parts: smallParts,
      change(part, tensors) {
        for (const [name, tensor] of part === "vae" ? [...tensors] : []) {
          const now = /attentions\.0\.(to_[qkv]|to_out\.0)\./.exec(name)?.[1] ?? "";
          if (older[now] !== undefined) {
            tensors.delete(name);
            tensors.set(name.replace(`.${now}.`, `.${older[now]}.`), tensor);
          }
        }
      },
    });
    await compare(await smallSources(folder), ["vae"]);
  });

  for (const [name, { config, output }] of Object.entries(graphGoldens.variants)) {
    it(`UNet of the form ${name} gives torch's values`, async () => {
      const file = join(home, `${name}.safetensors`);
      await writeSafetensors(file, partTensors(name));
      const read = await readSafetensors(file, name);
      const { tensors } = read;
      const source = {
        label: name,
        find: (key: string) => tensors.get(key),
        tensors: [...tensors.values()],
        files: [read],
      };
      const session = await open("unet", source, (g) => buildUnet(g, parse(unetPlanSchema, config)));
      const out = await session.run(unetFeeds(name, config), ["out_sample"]);
      const off = distance(out("out_sample").data, output);
      assert.ok(off <= 1e-5, `off by ${off}`);
    });
  }
});
