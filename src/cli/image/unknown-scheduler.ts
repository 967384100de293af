import * as z from "zod";
import { SchedulerSchema } from "../../gen/throughline/v1/image_pb.js";
import { readSettingsText } from "../../image/image-settings.js";

/** What is stored of a scheduler: the name of its value, or its number. */
const stored = z.object({ options: z.object({ scheduler: z.union([z.string(), z.number()]).optional() }).optional() });

/**
 * Returns the scheduler in the settings of a PNG file if this version has no such scheduler, such as one of a later version. `readImageSettings`
 * leaves it out. It is text of the file, which may be anything.
 */
export function unknownSchedulerIn(png: Uint8Array): string | undefined {
  try {
    const scheduler = stored.parse(JSON.parse(readSettingsText(png) ?? "")).options?.scheduler;
    const isKnown = SchedulerSchema.values.some(({ name, number }) => scheduler === name || scheduler === number);
    return scheduler === undefined || isKnown ? undefined : String(scheduler);
  } catch {
    return undefined;
  }
}
