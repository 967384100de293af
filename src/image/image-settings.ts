import { create, fromJsonString, toJsonString } from "@bufbuild/protobuf";
import { type GenerationOptions, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import { type GenerateRequest, GenerateRequestSchema } from "../gen/throughline/v1/pipeline_pb.js";
import { readPngTexts } from "./png-text.js";

/** Keyword of the text with the settings: a `GenerateRequest` as JSON. */
export const settingsKeyword = "throughline";

/** Largest text that is read, in UTF-16 units: far above two prompts and eight LoRAs. */
const maxTextLength = 65_536;

/** A request that generates the same image again on a worker with the same model. */
export function settingsText(prompt: string, options: GenerationOptions): string {
  return toJsonString(GenerateRequestSchema, create(GenerateRequestSchema, { prompt, options: sampling(options) }));
}

/** Returns the settings in a PNG file; undefined if it has none, or none that can be read. */
export function readImageSettings(png: Uint8Array): GenerateRequest | undefined {
  const text = readSettingsText(png);
  if (text === undefined) {
    return undefined;
  }
  try {
    // A later version may know more.
    const { prompt, options } = fromJsonString(GenerateRequestSchema, text, { ignoreUnknownFields: true });
    return create(GenerateRequestSchema, { prompt, options: options && sampling(options) });
  } catch {
    return undefined;
  }
}

/** Returns the settings in a PNG file as they are stored, JSON; undefined if it has none. */
export function readSettingsText(png: Uint8Array): string | undefined {
  const text = readPngTexts(png).get(settingsKeyword);
  return text === undefined || text.length > maxTextLength ? undefined : text;
}

/** The options that the pixels depend on. */
function sampling(options: GenerationOptions): GenerationOptions {
  const { negativePrompt, width, height, numInferenceSteps, guidanceScale, seed, scheduler } = options;
  const { strength, loras, clipSkip, guidanceRescale } = options;
  return create(GenerationOptionsSchema, {
    ...{ negativePrompt, width, height, numInferenceSteps, guidanceScale, seed, scheduler },
    ...{ strength, loras, clipSkip, guidanceRescale },
  });
}
