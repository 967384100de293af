import { invalidRequest } from "./errors.js";
import { type ImagesRequest, imagesRequestOf } from "./image-request.js";
import { type Form, type FormFile, readForm } from "./multipart.js";

/** Fields of a form that are numbers. Others are texts. */
const numbers: ReadonlySet<string> = new Set([
  "n",
  "output_compression",
  "partial_images",
  "num_inference_steps",
  "guidance_scale",
  "seed",
  "strength",
  "clip_skip",
  "guidance_rescale",
]);

/** Names of the field with the image. The clients add brackets for a list. */
const imageField = /^image(?:\[\d*\])?$/;

/**
 * Read the form of `POST /v1/images/edits`: the parameters of a generation as fields, and exactly one image.
 *
 * @throws OpenAiError 400 with the first wrong parameter; 413 for an image above 8 MiB.
 * @see https://platform.openai.com/docs/api-reference/images/createEdit
 */
export async function readEditRequest(body: Uint8Array, contentType: string): Promise<ImagesRequest> {
  const form = await readForm(body, contentType);
  const hasMask = form.files.some(({ field }) => field === "mask") || form.fields.has("mask");
  if (hasMask) {
    throw invalidRequest("mask", "mask: is not supported; without it, the whole image changes by its strength");
  }
  return imagesRequestOf(valuesOf(form), imageOf(form));
}

function imageOf({ fields, files }: Form): Uint8Array {
  const images = files.filter(({ field }) => imageField.test(field));
  const [image] = images;
  if (image === undefined) {
    const isText = [...fields.keys()].some((name) => imageField.test(name));
    throw invalidRequest("image", `image: ${isText ? "must be a file" : "is required"}`);
  }
  if (images.length > 1) {
    throw invalidRequest("image", `image: must be one file, and there are ${images.length}; send a request for each`);
  }
  return checked(image);
}

function checked({ bytes }: FormFile): Uint8Array {
  if (bytes.length === 0) {
    throw invalidRequest("image", "image: the file is empty; send a PNG, JPEG or WebP image");
  }
  return bytes;
}

/** Values of the fields as JSON would have them. An empty field counts as absent. */
function valuesOf({ fields }: Form): Readonly<Record<string, unknown>> {
  const values = new Map<string, unknown>();
  for (const [name, [text = "", ...others]] of fields) {
    if (text !== "" && !name.includes("[")) {
      if (others.length > 0) {
        throw invalidRequest(name, `${name}: must stand once`);
      }
      values.set(name, typedValue(name, text));
    }
  }
  const unknown = [...fields.keys()].find((name) => /^loras?\[/.test(name) && !loraFields.has(name));
  if (unknown !== undefined) {
    throw invalidRequest("loras", 'loras: send them as JSON, such as [{"name": "pixel", "scale": 0.8}]');
  }
  const lora = listedLoras(fields, "lora", "lora");
  const loras = listedLoras(fields, "loras[]", "loras");
  return { ...Object.fromEntries(values), ...(lora && { lora: lora[0] }), ...(loras && { loras }) };
}

function typedValue(name: string, text: string): unknown {
  if (numbers.has(name)) {
    return numberOf(text);
  }
  if (name === "stream") {
    return { true: true, false: false }[text.toLowerCase()] ?? text;
  }
  return name === "lora" || name === "loras" ? readJson(name, text) : text;
}

/** Anything that is no number stays a text, which the check of the parameters rejects. */
function numberOf(text: string): number | string {
  return /^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : text;
}

function readJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalidRequest(name, `${name}: is not valid JSON`);
  }
}

const loraFields: ReadonlySet<string> = new Set(["lora[name]", "lora[scale]", "loras[][name]", "loras[][scale]"]);

/** LoRAs as OpenAI's clients write objects in forms: `loras[][name]` and `loras[][scale]`, with all names and all scales in order. */
function listedLoras(fields: Form["fields"], prefix: string, param: string): object[] | undefined {
  const names = fields.get(`${prefix}[name]`);
  const scales = fields.get(`${prefix}[scale]`) ?? [];
  if (names === undefined) {
    return undefined;
  }
  if (scales.length > 0 && scales.length !== names.length) {
    throw invalidRequest(param, `${param}: give each LoRA a scale or none, or send ${param} as JSON`);
  }
  return names.map((name, index) => {
    const scale = scales[index];
    return { name, ...(scale !== undefined && { scale: numberOf(scale) }) };
  });
}
