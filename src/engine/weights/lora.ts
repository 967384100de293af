import { open } from "node:fs/promises";
import { basename } from "node:path";
import * as z from "zod";
import { decodeFloat16 } from "../floating-point.js";
import { factorNames, type LoraPart, ldmShapeOf, loraParts, otherKindOf } from "./lora-names.js";
import { readSafetensors, type SafetensorsFile } from "./safetensors.js";
import { findNonFinite, type TensorLocation, WeightError } from "./tensor-location.js";

/** A LoRA that requests can name. */
export interface LoraSource {
  readonly name: string;
  /** Path of its `.safetensors` file. */
  readonly file: string;
  /** Scale for requests without one. */
  readonly scale: number;
}

/** A layer's weight as LoRAs are to fit it. */
export interface LayerShape {
  /** [out, in], and the sides of a convolution's kernel. */
  readonly shape: readonly number[];
}

/** Layers of each sub-model that LoRAs can change, by diffusers' names of their weights. */
export type LoraLayers = Readonly<Record<LoraPart, ReadonlyMap<string, LayerShape>>>;

/** What a LoRA adds to one weight: scale · factor · up · down, both as matrices. */
export interface LoraChange {
  /** [rank, in], or [rank, in, height, width]. */
  readonly down: TensorLocation;
  /** [out, rank], or [out, rank, 1, 1]. */
  readonly up: TensorLocation;
  /** alpha / rank. */
  readonly factor: number;
}

/** What a LoRA changes in one sub-model, by the names of the weights. */
export type LoraChanges = ReadonlyMap<string, LoraChange>;

/** A LoRA as it fits a model. */
export interface Lora extends LoraSource {
  readonly changes: Readonly<Record<LoraPart, LoraChanges>>;
  readonly weights: SafetensorsFile;
}

/** A LoRA that cannot be used, with its name and file. For operators, not callers. */
export class LoraError extends Error {
  override readonly name = "LoraError";

  constructor({ name, file }: Pick<LoraSource, "name" | "file">, problem: string, options?: ErrorOptions) {
    super(`LoRA ${JSON.stringify(name)} (${file}): ${problem}`, options);
  }
}

/**
 * Reads a LoRA and fits it to the layers of a model. All of its values are read once, to find infinities and NaN; afterwards they stay in
 * the file.
 *
 * @throws LoraError when the file is none, is of another kind or for another model, or is damaged.
 */
export async function readLora(source: LoraSource, layers: LoraLayers): Promise<Lora> {
  try {
    const label = basename(source.file);
    const weights = await readSafetensors(source.file, label);
    const other = otherKindOf(weights.tensors.keys());
    if (other !== undefined) {
      throw new WeightError(label, "a plain LoRA for SDXL", `${other.what} (${other.tensor})`);
    }
    const changes = await fitLora(weights, layers, label);
    const damaged = await findNonFinite([{ label, tensors: [...weights.tensors.values()] }]);
    if (damaged !== undefined) {
      throw new WeightError(label, `numbers in ${damaged.tensor}`, "NaN or an infinity among them");
    }
    return { ...source, weights, changes };
  } catch (error) {
    throw toLoraError(source, error);
  }
}

function toLoraError(source: LoraSource, error: unknown): unknown {
  if (error instanceof WeightError) {
    return new LoraError(source, `expected ${error.expected}, found ${error.found}`, { cause: error });
  }
  const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
  const reason = missing ? "there is no such file" : error instanceof Error ? error.message : String(error);
  return new LoraError(source, reason, { cause: error });
}

async function fitLora(weights: SafetensorsFile, layers: LoraLayers, label: string): Promise<Lora["changes"]> {
  const { tensors } = weights;
  const adapter = readAdapter(weights, label);
  const ldm = ldmShapeOf(layers.unet.keys());
  const used = new Set<string>();
  const fit = async (part: LoraPart): Promise<LoraChanges> => {
    const changes = new Map<string, LoraChange>();
    for (const [name, { shape }] of layers[part]) {
      const layer = name.replace(/\.weight$/, "");
      for (const names of factorNames(part, layer, ldm)) {
        const [down, up, alpha] = [tensors.get(names.down), tensors.get(names.up), tensors.get(names.alpha)];
        if (down === undefined || up === undefined || changes.has(name)) {
          continue;
        }
        checkFactors(down, up, shape, label);
        const rank = down.shape[0] ?? 1;
        const factor = alpha === undefined ? adapter(part, layer, rank) : (await readNumber(alpha, label)) / rank;
        changes.set(name, { down, up, factor });
        for (const tensor of [down, up, ...(alpha === undefined ? [] : [alpha])]) {
          used.add(tensor.name);
        }
      }
    }
    return changes;
  };
  const changes = {
    text_encoder: await fit("text_encoder"),
    text_encoder_2: await fit("text_encoder_2"),
    unet: await fit("unet"),
  };
  checkAllFit([...tensors.keys()], used, label);
  return changes;
}

function checkFactors(down: TensorLocation, up: TensorLocation, layer: readonly number[], label: string): void {
  const [out = 0, ...inside] = layer;
  const rank = down.shape[0] ?? 0;
  const hint = "it was trained for another model";
  if (!sameShape(down.shape.slice(1), inside) || rank === 0) {
    throw new WeightError(label, `${down.name} of shape [${[rank || 1, ...inside]}]`, `[${down.shape}]: ${hint}`);
  }
  if (!sameShape(up.shape, [out, rank])) {
    throw new WeightError(label, `${up.name} of shape [${[out, rank]}]`, `[${up.shape}]: ${hint}`);
  }
  for (const { name, dtype } of [down, up]) {
    if (!["F32", "F16", "BF16"].includes(dtype)) {
      throw new WeightError(label, `${name} of type F32, F16 or BF16`, dtype);
    }
  }
}

/** Linear layers are stored as convolutions of 1 × 1 too. */
function sameShape(one: readonly number[], other: readonly number[]): boolean {
  const trimmed = (shape: readonly number[]) => shape.join().replace(/(?<=\d)(?:,1,1)$/, "");
  return trimmed(one) === trimmed(other);
}

function checkAllFit(names: readonly string[], used: ReadonlySet<string>, label: string): void {
  const left = names.filter((name) => !used.has(name));
  const [first] = left;
  if (used.size === 0) {
    throw new WeightError(label, "a LoRA for SDXL", `tensors of none, such as ${first ?? "none at all"}`);
  }
  if (first !== undefined) {
    const more = left.length > 1 ? ` and ${left.length - 1} more` : "";
    throw new WeightError(label, "tensors for layers of this model only", `${first}${more}`);
  }
}

/** What PEFT writes beside the factors: diffusers keeps it in the metadata, with the sub-model before each key. */
const adapterSchema = z.record(z.string(), z.unknown());
const settingsSchema = z.object({
  lora_alpha: z.number().optional(),
  alpha_pattern: z.record(z.string(), z.number()).default({}),
  use_rslora: z.boolean().default(false),
  use_dora: z.literal(false, { error: "false, since the engine does not implement DoRA" }).default(false),
});

type ReadFactor = (part: LoraPart, layer: string, rank: number) => number;

/** How layers without an alpha of their own are scaled: by the metadata, or not at all. */
function readAdapter({ metadata }: SafetensorsFile, label: string): ReadFactor {
  const { data: all } = adapterSchema.safeParse(parseJson(metadata["lora_adapter_metadata"]));
  if (all === undefined) {
    throw new WeightError(label, "lora_adapter_metadata that is a JSON object", "something else");
  }
  const settings = new Map(
    loraParts.flatMap((part) => {
      const own = Object.entries(all).flatMap(([key, value]) =>
        key.startsWith(`${part}.`) && value !== null ? [[key.slice(part.length + 1), value] as const] : [],
      );
      if (own.length === 0) {
        return [];
      }
      const { data, error } = settingsSchema.safeParse(Object.fromEntries(own));
      if (data === undefined) {
        const [issue] = error.issues;
        const where = [part, ...(issue?.path ?? [])].join(".");
        throw new WeightError(label, `lora_adapter_metadata that the engine implements`, `${where}: ${issue?.message}`);
      }
      const pattern = Object.keys(data.alpha_pattern).find((key) => !/^[\w.]+$/.test(key));
      if (pattern !== undefined) {
        const found = `the regular expression ${JSON.stringify(pattern)}`;
        throw new WeightError(label, `names of layers in ${part}.alpha_pattern`, found);
      }
      return [[part, data] as const];
    }),
  );
  return (part, layer, rank) => {
    const { lora_alpha, alpha_pattern = {}, use_rslora = false } = settings.get(part) ?? {};
    const own = Object.entries(alpha_pattern).find(([name]) => `.${layer}`.endsWith(`.${name}`))?.[1];
    return (own ?? lora_alpha ?? rank) / (use_rslora ? Math.sqrt(rank) : rank);
  };
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "{}");
  } catch {
    return undefined;
  }
}

/** The one number of a tensor. @throws WeightError when there is none, or no finite one. */
async function readNumber(
  { name, file, offset, length, dtype, shape }: TensorLocation,
  label: string,
): Promise<number> {
  const read = numberReaders[dtype];
  if (read === undefined || shape.some((side) => side !== 1)) {
    throw new WeightError(label, `one number in ${name}`, `${dtype} [${shape}]`);
  }
  const bytes = Buffer.alloc(length);
  const handle = await open(file);
  try {
    await handle.read(bytes, 0, length, offset);
  } finally {
    await handle.close();
  }
  const value = read(bytes);
  if (!Number.isFinite(value)) {
    throw new WeightError(label, `a number in ${name}`, `${value}`);
  }
  return value;
}

const numberReaders: Readonly<Record<string, (bytes: Buffer) => number>> = {
  F64: (bytes) => bytes.readDoubleLE(),
  F32: (bytes) => bytes.readFloatLE(),
  F16: (bytes) => decodeFloat16(Uint16Array.of(bytes.readUInt16LE()))[0] ?? 0,
  BF16: (bytes) => Buffer.concat([Buffer.alloc(2), bytes]).readFloatLE(),
  I64: (bytes) => Number(bytes.readBigInt64LE()),
  I32: (bytes) => bytes.readInt32LE(),
};
