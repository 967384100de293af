import { Invalid, option, type Parse } from "./option.js";
import { nonEmpty } from "./values.js";

/** A LoRA that `--lora` names. */
export interface LoraFlag {
  readonly name: string;
  /** Path as it was given. */
  readonly file: string;
  /** Scale for requests without one. */
  readonly scale: number;
}

const largestScale = 10;
const longestName = 128;

/** Whether requests can name a LoRA so, also by `generate --lora name:scale`. */
export function isLoraName(name: string): boolean {
  return name.trim() === name && !/[,:=\p{Cc}]/u.test(name) && name !== "" && [...name].length <= longestName;
}

/**
 * LoRAs with their files, `name=FILE` or `name=FILE:scale`, separated by commas. The end of a file's name tells the two forms apart, so that
 * commas, colons and drive letters can be in a path.
 */
export const loraFiles: Parse<readonly LoraFlag[]> = (text) => {
  const flags = text.split(/(?<=\.safetensors(?::[-.\d]+)?),/i).map((entry) => {
    const [, name = "", file = "", scale = "1"] =
      /^([^=]*)=(.*\.safetensors)(?::(-?\d{1,12}(?:\.\d{1,12})?))?$/is.exec(entry) ?? [];
    return { name, file, scale: Number(scale) };
  });
  if (flags.some(({ name, file, scale }) => !isLoraName(name) || file === "" || Math.abs(scale) > largestScale)) {
    return new Invalid(
      `must be name=FILE.safetensors or name=FILE.safetensors:scale with a scale from -${largestScale} to ${largestScale}, such as pixel=./pixel.safetensors:0.8; a name has none of , : =`,
    );
  }
  return new Set(flags.map(({ name }) => name)).size < flags.length ? new Invalid("must name each LoRA once") : flags;
};

/** Which LoRAs a model has. */
export const loraOptions = {
  loras: option(
    "--lora <name=file[:scale]>",
    "LoRA that requests can name, a .safetensors file; the scale is for requests without one (default 1). The flag may be repeated, the variable separates LoRAs by commas",
    { env: "THROUGHLINE_LORA", parse: loraFiles, repeatable: true, absent: "none" },
  ),
  loraFolder: option(
    "--lora-folder <folder>",
    "Folder of LoRAs that requests can name: each .safetensors file by its name without the extension, read at the start; --lora wins",
    { env: "THROUGHLINE_LORA_FOLDER", parse: nonEmpty, absent: "none" },
  ),
};
