import type { MessageInitShape } from "@bufbuild/protobuf";
import * as z from "zod";
import { Delivery, type GenerationOptionsSchema, ImageFormat } from "../../gen/throughline/v1/image_pb.js";
import { seedOf } from "../../image/seed.js";
import { jsonExcess } from "../../mesh/serve/json-shape.js";
import { requestLimits } from "../../request-limits.js";
import { anyNumber, wholeNumber } from "../number-schema.js";
import { invalidRequest } from "./errors.js";

/** Image formats by OpenAI's names. */
export const outputFormats = {
  png: ImageFormat.PNG,
  jpeg: ImageFormat.JPEG,
  webp: ImageFormat.WEBP,
} as const satisfies Record<string, ImageFormat>;

export type OutputFormat = keyof typeof outputFormats;

const loraSchema = z.object(
  { name: z.string("must have a name"), scale: anyNumber(requestLimits.loraScale).nullish() },
  'must have the form {"name": "pixel", "scale": 0.8}',
);

/**
 * Parameters of a request for images. Fields that are null count as absent. Other fields are accepted and have no effect, because clients
 * send parameters of OpenAI's own models. `lora` is vLLM-Omni's form of one LoRA, `loras` a list of them.
 *
 * @see https://platform.openai.com/docs/api-reference/images/create
 */
const bodySchema = z.object({
  prompt: z.string({ error: ({ input }) => (input === undefined ? "is required" : "must be a text") }),
  model: z.string("must be a text").nullish(),
  n: wholeNumber({ min: 1, max: 10 }).nullish(),
  size: z
    .string("must be a text")
    .regex(/^(auto|\d{1,5}x\d{1,5})$/, "must be auto or WIDTHxHEIGHT in pixels, such as 1024x1024")
    .nullish(),
  output_format: z.enum(["png", "jpeg", "webp"], "must be png, jpeg or webp").nullish(),
  output_compression: wholeNumber({ min: 0, max: 100 }).nullish(),
  response_format: z.enum(["b64_json", "url"], "must be b64_json or url").nullish(),
  stream: z.boolean("must be true or false").nullish(),
  partial_images: wholeNumber({ min: 0, max: 3 }).nullish(),
  negative_prompt: z.string("must be a text").nullish(),
  num_inference_steps: wholeNumber(requestLimits.steps).nullish(),
  guidance_scale: anyNumber(requestLimits.guidance).nullish(),
  seed: wholeNumber(requestLimits.seed).nullish(),
  clip_skip: wholeNumber(requestLimits.clipSkip).nullish(),
  guidance_rescale: anyNumber(requestLimits.guidanceRescale).nullish(),
  strength: anyNumber(requestLimits.strength).nullish(),
  lora: loraSchema.nullish(),
  loras: z
    .array(loraSchema, "must be a list of LoRAs")
    .max(requestLimits.maxLoras, `must be at most ${requestLimits.maxLoras} LoRAs`)
    .nullish(),
});

/** Generation options whose values may be absent. */
export type GenerationInit = Readonly<Omit<MessageInitShape<typeof GenerationOptionsSchema>, "$typeName">>;

/** A request for images, in the contract's terms. */
export interface ImagesRequest {
  readonly prompt: string;
  /** App id; empty for the default app. */
  readonly model: string;
  /** Options of each image, without the seed. */
  readonly options: GenerationInit;
  /** Seed of each image. */
  readonly seeds: readonly number[];
  /** As requested: `auto`, or width and height. */
  readonly size: string;
  readonly outputFormat: OutputFormat;
  /** Whether images are sent as URLs. */
  readonly asUrl: boolean;
  readonly stream: boolean;
  /** Partial images of a stream, 0 to 3. */
  readonly partialImages: number;
  /** Whether the request has an image to start from. */
  readonly isEdit: boolean;
  /** Denoising steps, if requested. */
  readonly steps: number | undefined;
}

/**
 * Read the body of `POST /v1/images/generations`.
 *
 * @throws OpenAiError 400 with the first wrong parameter.
 */
export function readImagesRequest(body: Uint8Array): ImagesRequest {
  return imagesRequestOf(readJson(body), undefined);
}

/**
 * Check the parameters of a request for images.
 *
 * @param initImage encoded image to start from; undefined for none.
 * @throws OpenAiError 400 with the first wrong parameter.
 */
export function imagesRequestOf(body: unknown, initImage: Uint8Array | undefined): ImagesRequest {
  const parsed = bodySchema.safeParse(body);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const param = issue?.path[0];
    if (issue === undefined || param === undefined) {
      throw invalidRequest(null, "the body must be a JSON object", "invalid_json");
    }
    throw invalidRequest(String(param), `${z.core.toDotPath(issue.path)}: ${issue.message}`);
  }
  const wanted = parsed.data;
  const count = wanted.n ?? 1;
  const stream = wanted.stream ?? false;
  if (stream && count > 1) {
    throw invalidRequest("n", "n: must be 1 with stream: true; send one request for each image to stream");
  }
  if (wanted.strength != null && initImage === undefined) {
    throw invalidRequest("strength", "strength: needs an image to start from; send both to /v1/images/edits");
  }
  const size = wanted.size ?? "auto";
  const [width, height] = size === "auto" ? [] : size.split("x").map(Number);
  const outputFormat = wanted.output_format ?? "png";
  const asUrl = wanted.response_format === "url" && !stream;
  const firstSeed = seedOf({ seed: wanted.seed ?? undefined });
  const options = {
    negativePrompt: wanted.negative_prompt ?? undefined,
    width,
    height,
    numInferenceSteps: wanted.num_inference_steps ?? undefined,
    guidanceScale: wanted.guidance_scale ?? undefined,
    format: outputFormats[outputFormat],
    quality: wanted.output_compression == null ? undefined : Math.max(1, wanted.output_compression),
    delivery: asUrl ? Delivery.URL : Delivery.INLINE,
    clipSkip: wanted.clip_skip ?? undefined,
    guidanceRescale: wanted.guidance_rescale ?? undefined,
    loras: [...(wanted.lora == null ? [] : [wanted.lora]), ...(wanted.loras ?? [])].map(({ name, scale }) => ({
      name,
      ...(scale != null && { scale }),
    })),
    initImage,
    strength: wanted.strength ?? undefined,
  };
  return {
    prompt: wanted.prompt,
    model: wanted.model ?? "",
    options,
    seeds: Array.from({ length: count }, (_, index) => (firstSeed + index) % 2 ** 32),
    size,
    outputFormat,
    asUrl,
    stream,
    partialImages: stream ? (wanted.partial_images ?? 0) : 0,
    isEdit: initImage !== undefined,
    steps: wanted.num_inference_steps ?? undefined,
  };
}

function readJson(body: Uint8Array): unknown {
  const excess = jsonExcess(body);
  if (excess !== undefined) {
    throw invalidRequest(null, excess, "invalid_json");
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw invalidRequest(null, "the body is not valid JSON in UTF-8", "invalid_json");
  }
}
