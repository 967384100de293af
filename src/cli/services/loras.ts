import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { LoraSource } from "../../engine/weights/lora.js";
import { messageOf, usageError } from "../errors.js";
import { isLoraName, type LoraFlag } from "../options/lora-options.js";
import { expandHome } from "../options/model-options.js";

/** The settings of LoRAs. */
export interface LoraSettings {
  readonly loras: readonly LoraFlag[] | undefined;
  readonly loraFolder: string | undefined;
}

const extension = /\.safetensors$/i;

/**
 * Lists the LoRAs of the flags, then those of the folder by name. A flag has priority over a file of its name.
 *
 * @throws CliError when the folder cannot be read, or a file's name cannot be that of a LoRA.
 */
export async function findLoras({ loras = [], loraFolder }: LoraSettings): Promise<readonly LoraSource[]> {
  const flags = loras.map(({ name, file, scale }) => ({ name, file: resolve(expandHome(file)), scale }));
  const own = new Set(flags.map(({ name }) => name));
  const files = loraFolder === undefined ? [] : await listFolder(resolve(expandHome(loraFolder)));
  return [...flags, ...files.filter(({ name }) => !own.has(name))];
}

async function listFolder(folder: string): Promise<LoraSource[]> {
  const entries = await readdir(folder).catch((cause: unknown) => {
    throw usageError(`--lora-folder must be a folder that can be read: ${messageOf(cause)}`, { cause });
  });
  // Names that begin with a dot are of other programs, such as macOS's `._pixel.safetensors`.
  const files = entries.filter((entry) => extension.test(entry) && !entry.startsWith(".")).sort();
  return files.map((file) => {
    const name = file.replace(extension, "");
    if (!isLoraName(name)) {
      throw usageError(
        `--lora-folder has a file ${JSON.stringify(file)}, whose name cannot be that of a LoRA: at most 128 characters, none of , : =; rename it, or name it with --lora name=FILE`,
      );
    }
    return { name, file: join(folder, file), scale: 1 };
  });
}

/** The flags of another process with the same LoRAs. */
export function loraFlags({ loras = [], loraFolder }: LoraSettings): readonly string[] {
  return [
    ...loras.flatMap(({ name, file, scale }) => ["--lora", `${name}=${file}:${decimal(scale)}`]),
    ...(loraFolder === undefined ? [] : ["--lora-folder", loraFolder]),
  ];
}

/** Without the exponent that small numbers have as text. */
function decimal(value: number): string {
  return value.toFixed(12).replace(/\.?0+$/, "");
}
