import type { MessageInitShape } from "@bufbuild/protobuf";
import * as z from "zod";
import { Delivery, type GenerationOptionsSchema, ImageFormat } from "../../gen/throughline/v1/image_pb.js";
import type { CreateJobRequestSchema } from "../../gen/throughline/v1/job_pb.js";
import type { GenerateRequestSchema } from "../../gen/throughline/v1/pipeline_pb.js";
import { parseDataUri } from "../../image/image-format.js";
import { jsonExcess } from "../../mesh/serve/json-shape.js";
import { requestLimits } from "../../request-limits.js";
import { anyNumber, wholeNumber } from "../number-schema.js";
import { FalError, type FieldError, invalidFields } from "./errors.js";

/** Form of an app's input and output: that of the original's two apps, or that of `fal-ai/fast-sdxl`. */
export type FalForm = "worker" | "pipeline" | "images";

/** App id that fal's users have for SDXL. It is the default app here. */
const fastSdxl = "fal-ai/fast-sdxl";

/** Most images of a run. */
const maxImages = 8;

const presets = {
  square_hd: [1024, 1024],
  square: [512, 512],
  portrait_4_3: [768, 1024],
  portrait_16_9: [576, 1024],
  landscape_4_3: [1024, 768],
  landscape_16_9: [1024, 576],
} as const;

const formats = { png: ImageFormat.PNG, jpeg: ImageFormat.JPEG, webp: ImageFormat.WEBP } as const;
const formatSchema = z.enum(["png", "jpeg", "webp"], "must be jpeg, png or webp").nullish();
const text = z.string({ error: ({ input }) => (input === undefined ? "is required" : "must be a text") });
/** Checks the size of an object or a list before its entries: each wrong one is an issue, and a body has room for a million. */
const atMost = <Schema extends z.ZodType>(max: number, entries: string, schema: Schema) =>
  z.preprocess((value, context) => {
    const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
    const size = Array.isArray(value) ? value.length : isMap ? Object.keys(value).length : 0;
    if (size > max) {
      context.addIssue(`must be at most ${max} ${entries}`);
    }
    return size > max ? z.NEVER : value;
  }, schema);
const without = (message: string) => z.literal([false, null], message).optional();

const loraSchema = z
  .object(
    {
      path: z.string("must be the name of a LoRA of the worker").nullish(),
      name: z.string("must be the name of a LoRA of the worker").nullish(),
      scale: anyNumber(requestLimits.loraScale).nullish(),
    },
    'must have the form {"path": "pixel", "scale": 0.8}',
  )
  .transform(({ path, name, scale }, context) => {
    const known = name ?? path ?? "";
    if (known === "" || known.includes("://")) {
      context.addIssue(
        "must name a LoRA of the worker in path: the operator loads LoRAs with --lora, and no URL is fetched",
      );
    }
    return { name: known, ...(scale != null && { scale }) };
  });

/**
 * Parameters of `fal-ai/fast-sdxl`. Null counts as absent. Other fields are accepted without effect, as fal's own apps do; those that would
 * change the image are rejected.
 *
 * @see https://fal.ai/models/fal-ai/fast-sdxl/api
 */
const optionsSchema = z.object({
  negative_prompt: z.string("must be a text").nullish(),
  image_size: z
    .union(
      [
        z.enum(Object.keys(presets) as (keyof typeof presets)[]),
        z.object({ width: wholeNumber(requestLimits.side), height: wholeNumber(requestLimits.side) }),
      ],
      `must be ${Object.keys(presets).join(", ")}, or {"width": …, "height": …} with sides from ${requestLimits.side.min} to ${requestLimits.side.max}`,
    )
    .nullish(),
  num_inference_steps: wholeNumber(requestLimits.steps).nullish(),
  guidance_scale: anyNumber(requestLimits.guidance).nullish(),
  guidance_rescale: anyNumber(requestLimits.guidanceRescale).nullish(),
  clip_skip: wholeNumber(requestLimits.clipSkip).nullish(),
  seed: wholeNumber(requestLimits.seed).nullish(),
  num_images: wholeNumber({ min: 1, max: maxImages }).nullish(),
  format: formatSchema,
  output_format: formatSchema,
  sync_mode: z.boolean("must be true or false").nullish(),
  loras: atMost(requestLimits.maxLoras, "LoRAs", z.array(loraSchema, "must be a list of LoRAs")).nullish(),
  image_url: z
    .string("must be a data: URI")
    .transform((uri, context) => {
      const image = parseDataUri(uri);
      if (image === undefined) {
        context.addIssue(
          "must be a base64 data: URI of a PNG, JPEG or WebP image: this server fetches no URL and takes no uploads",
        );
      }
      return image?.bytes ?? new Uint8Array();
    })
    .nullish(),
  strength: anyNumber(requestLimits.strength).nullish(),
  mask_url: z.null("masks are not supported; leave it out").optional(),
  embeddings: z.array(z.unknown()).max(0, "embeddings are not supported; leave it out").nullish(),
  expand_prompt: without("prompts are not expanded here; leave it out, or set it to false"),
});

const imagesSchema = optionsSchema.extend({ prompt: text });

/** The original's `InferRequest`, and the parameters of {@link optionsSchema}. */
const workerSchema = optionsSchema.extend({
  prompt: text,
  trace_context: atMost(
    requestLimits.maxTraceContextEntries,
    "entries",
    z.record(
      z.string(),
      z.string("must be a text"),
      "must be an object of texts, as OpenTelemetry's inject() writes it into a dict",
    ),
  ).nullish(),
});

/** The original's `GenerateRequest`. */
const pipelineSchema = z.object({ prompt: text, worker_app: z.string("must be an app id, owner/name").nullish() });

/** A `GenerateRequest` to be sent. */
export type GenerateInit = Readonly<Omit<MessageInitShape<typeof GenerateRequestSchema>, "$typeName">>;

/** An input, in the contract's terms. */
export interface FalInput {
  readonly form: FalForm;
  readonly work: NonNullable<MessageInitShape<typeof CreateJobRequestSchema>["work"]>;
  /** Images that the input asks for: 1, or more in the form `images`. */
  readonly count: number;
}

/**
 * Read the input of an app.
 *
 * @param app app id of the path.
 * @throws FalError 422 with all wrong fields.
 */
export function readInput(app: string, body: Uint8Array): FalInput {
  const json = readJson(body);
  const form = formOf(app, json);
  switch (form) {
    case "pipeline": {
      const { prompt, worker_app } = parse(pipelineSchema, json);
      return { form, work: { case: "generate", value: { prompt, workerApp: worker_app ?? "" } }, count: 1 };
    }
    case "worker": {
      const input = parse(workerSchema, json);
      const count = input.num_images ?? 1;
      if (count > 1) {
        throw invalidFields([numImagesError("this app makes one image for each request")]);
      }
      const request = {
        prompt: input.prompt,
        traceContext: input.trace_context ?? {},
        options: optionsOf(input),
      };
      return { form, work: { case: "infer", value: { workerApp: workerOf(app), request } }, count };
    }
    case "images": {
      const input = parse(imagesSchema, json);
      const value = { prompt: input.prompt, workerApp: workerOf(app), options: optionsOf(input) };
      return { form, work: { case: "generate", value }, count: input.num_images ?? 1 };
    }
  }
}

/** 422 for more images than a request can make. */
export function numImagesError(reason: string): FieldError {
  return { loc: ["body", "num_images"], msg: `must be 1: ${reason}`, type: "value_error" };
}

/** Form of the app `image-pipeline` of any owner; undefined for other apps, whose form depends on the input too. */
export function isPipelineApp(app: string): boolean {
  return app.endsWith("/image-pipeline");
}

function formOf(app: string, json: unknown): FalForm {
  if (isPipelineApp(app)) {
    return "pipeline";
  }
  const hasCarrier = typeof json === "object" && json !== null && "trace_context" in json;
  return hasCarrier || app.endsWith("/text-to-image-worker") ? "worker" : "images";
}

function workerOf(app: string): string {
  return app === fastSdxl ? "" : app;
}

type Options = z.infer<typeof optionsSchema>;

function optionsOf(input: Options): MessageInitShape<typeof GenerationOptionsSchema> {
  const { image_size: size } = input;
  const [width, height] = size == null ? [] : typeof size === "string" ? presets[size] : [size.width, size.height];
  const format = input.format ?? input.output_format;
  return {
    width,
    height,
    negativePrompt: input.negative_prompt ?? undefined,
    numInferenceSteps: input.num_inference_steps ?? undefined,
    guidanceScale: input.guidance_scale ?? undefined,
    guidanceRescale: input.guidance_rescale ?? undefined,
    clipSkip: input.clip_skip ?? undefined,
    seed: input.seed ?? undefined,
    loras: input.loras ?? [],
    initImage: input.image_url ?? undefined,
    strength: input.strength ?? undefined,
    ...(format != null && { format: formats[format] }),
    ...(input.sync_mode === true && { delivery: Delivery.DATA_URI }),
  };
}

function readJson(body: Uint8Array): unknown {
  const excess = jsonExcess(body);
  if (excess !== undefined) {
    throw new FalError(422, [{ loc: ["body"], msg: excess, type: "json_invalid" }]);
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new FalError(422, [{ loc: ["body"], msg: "the body is not valid JSON in UTF-8", type: "json_invalid" }]);
  }
}

function parse<Output>(schema: z.ZodType<Output>, json: unknown): Output {
  const parsed = schema.safeParse(json);
  if (parsed.success) {
    return parsed.data;
  }
  throw invalidFields(
    parsed.error.issues.map(({ path, message }) => ({
      loc: ["body", ...path.map(String)],
      msg: path.length === 0 ? "the body must be a JSON object" : message,
      type: message === "is required" ? "missing" : "value_error",
    })),
  );
}
