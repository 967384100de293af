import { basename, dirname, resolve } from "node:path";
import { readClipTokenizers } from "./clip-tokenizer.js";
import { asModelError } from "./folder-reader.js";
import { clipPlanSchema, vaePlanSchema } from "./graphs/plan-config.js";
import type { UnetPlan } from "./graphs/unet.js";
import {
  hubName,
  sdxlSchedulerConfig,
  sdxlTextConfigs,
  sdxlUnetConfig,
  sdxlVaeConfig,
  textEncoderSchema,
  unetSchema,
  vaeSchema,
} from "./model-config.js";
import {
  distilledDefaults,
  distilledKind,
  distilledScheduler,
  familyName,
  type ModelDescription,
} from "./model-description.js";
import { readSingleFile, type SingleFile } from "./weights/single-file.js";
import type { WeightSource } from "./weights/tensor-location.js";

/** Channels of each head of attention, in SDXL's UNet and in both of its text encoders. */
const headWidth = 64;

/**
 * Reads a checkpoint of one `.safetensors` file: the names of Stability's own code, SDXL's configurations, CLIP's tokenizer.
 *
 * @throws ModelFolderError when it is another kind of file, or cannot be used.
 */
export async function readCheckpoint(file: string): Promise<ModelDescription> {
  const path = resolve(file);
  const checkpoint = await readSingleFile(path).catch((error: unknown) => {
    throw asModelError(dirname(path), error);
  });
  const { metadata } = checkpoint.file;
  const name = hubName(path) ?? basename(path, ".safetensors");
  const widths = levelWidths(checkpoint.weights.unet);
  const guidanceWidth = checkpoint.weights.unet.find("time_embedding.cond_proj.weight")?.shape[1];
  const kind = guidanceWidth === undefined ? distilledKind({ name, metadata }) : "LCM";
  const prediction = predictionOf(checkpoint);
  const scheduler = { ...sdxlSchedulerConfig, ...prediction, ...distilledScheduler(kind, name) };
  const textEncoders = sdxlTextConfigs.map((config) => textEncoderSchema.parse(config));
  const textPlans = sdxlTextConfigs.map((config) => clipPlanSchema.parse(config));
  const [firstEncoder, secondEncoder] = textEncoders;
  const [firstPlan, secondPlan] = textPlans;
  if (!firstEncoder || !secondEncoder || !firstPlan || !secondPlan) {
    throw new Error("SDXL has two text encoders");
  }
  const widthOf = (source: WeightSource): number =>
    source.find("text_model.embeddings.token_embedding.weight")?.shape[1] ?? 0;
  const { text_encoder: first, text_encoder_2: second } = checkpoint.weights;
  return {
    path,
    name,
    family: familyName(kind),
    form: {
      kind: "safetensors",
      readWeights: async () => checkpoint.weights,
      plans: {
        textEncoders: [
          { ...firstPlan, heads: widthOf(first) / headWidth, layers: undefined },
          { ...secondPlan, heads: widthOf(second) / headWidth, layers: undefined },
        ],
        unet: unetPlan(checkpoint, widths),
        vae: { ...vaePlanSchema.parse(sdxlVaeConfig), levels: undefined },
      },
    },
    forceZerosForEmptyPrompt: true,
    tokenizers: await readClipTokenizers(),
    textEncoders: [
      { ...firstEncoder, hidden_size: widthOf(first), num_hidden_layers: layersOf(first) },
      {
        ...secondEncoder,
        hidden_size: widthOf(second),
        num_hidden_layers: layersOf(second),
        // Stored as [in, out].
        projection_dim: second.find("text_projection.weight")?.shape[1],
      },
    ],
    unet: unetSchema.parse({
      ...sdxlUnetConfig,
      block_out_channels: widths,
      time_cond_proj_dim: guidanceWidth,
      cross_attention_dim: widthOf(first) + widthOf(second),
    }),
    vae: vaeSchema.parse({ ...sdxlVaeConfig, block_out_channels: vaeWidths(checkpoint.weights.vae) }),
    scheduler: { className: scheduler._class_name, config: scheduler },
    throughline: {},
    distilled: distilledDefaults({
      name,
      metadata,
      schedulerClass: scheduler._class_name,
      guidanceEmbedding: guidanceWidth !== undefined,
    }),
    assumptions: [
      `${basename(path)} brings no configuration: SDXL's own is taken${describePrediction(prediction)}${kind === undefined ? "" : `, with the scheduler of ${kind} models`}`,
    ],
  };
}

type Prediction = Readonly<Record<string, unknown>>;

/** Checkpoints that predict v have an empty tensor of that name, or an entry in their metadata. */
function predictionOf({ file: { tensors, metadata } }: SingleFile): Prediction {
  const velocity = tensors.has("v_pred") || metadata["modelspec.prediction_type"] === "v";
  return {
    ...(velocity && { prediction_type: "v_prediction" }),
    // With no signal left at the last training step, sampling has to begin at that step.
    ...(tensors.has("ztsnr") && { rescale_betas_zero_snr: true, timestep_spacing: "trailing" }),
  };
}

function describePrediction(prediction: Prediction): string {
  const features = [
    ...("prediction_type" in prediction ? ["v-prediction"] : []),
    ...("rescale_betas_zero_snr" in prediction ? ["zero terminal SNR"] : []),
  ];
  return features.length === 0 ? "" : `, with ${features.join(" and ")}`;
}

function levelWidths(unet: WeightSource): number[] {
  const widths: number[] = [];
  for (;;) {
    const width = unet.find(`down_blocks.${widths.length}.resnets.0.conv1.weight`)?.shape[0];
    if (width === undefined) {
      return widths;
    }
    widths.push(width);
  }
}

/** Widths of the decoder's levels, from the largest images down, as configurations have them. */
function vaeWidths(vae: WeightSource): number[] {
  const widths: number[] = [];
  for (;;) {
    const width = vae.find(`decoder.up_blocks.${widths.length}.resnets.0.conv1.weight`)?.shape[0];
    if (width === undefined) {
      return widths.reverse();
    }
    widths.push(width);
  }
}

function layersOf(encoder: WeightSource): number {
  let layers = 0;
  while (encoder.find(`text_model.encoder.layers.${layers}.layer_norm1.weight`) !== undefined) {
    layers++;
  }
  return layers;
}

function unetPlan({ weights }: SingleFile, widths: readonly number[]): UnetPlan {
  const { addition_time_embed_dim: timeIdWidth } = sdxlUnetConfig;
  const widthOf = (source: WeightSource, name: string, axis: number): number => source.find(name)?.shape[axis] ?? 0;
  const contexts = [weights.text_encoder, weights.text_encoder_2].map((source) =>
    widthOf(source, "text_model.embeddings.token_embedding.weight", 1),
  );
  return {
    heads: widths.map((width) => width / headWidth),
    contextWidth: contexts.reduce((sum, width) => sum + width, 0),
    pooledWidth: widthOf(weights.unet, "add_embedding.linear_1.weight", 1) - 6 * timeIdWidth,
    groups: 32,
    eps: 1e-5,
    flipSinToCos: true,
    frequencyShift: 0,
    timeIdWidth,
  };
}
