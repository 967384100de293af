import { open, stat } from "node:fs/promises";

/** Where the values of one tensor lie: a range of bytes in a file, as they are. */
export interface TensorLocation {
  /** The tensor's own name in the file. */
  readonly name: string;
  /** Absolute path of the file, links resolved. */
  readonly file: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Element type, as safetensors names it, such as `F16`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Stored as [in, out] where a linear layer has [out, in]: open_clip's text projection. */
  readonly transposed?: boolean;
}

/** The weights of one sub-model, under the names of diffusers and transformers. */
export interface WeightSource {
  /** What errors call it: a path inside the model's folder, such as `unet/diffusion_pytorch_model.safetensors`. */
  readonly label: string;
  find(name: string): TensorLocation | undefined;
  /** The tensors that belong to this sub-model and to nothing else. */
  readonly tensors: readonly TensorLocation[];
  /** Files that the tensors lie in. */
  readonly files: readonly WeightFile[];
}

/** A file of weights as it was when its header was read. */
export interface WeightFile {
  /** Absolute path, links resolved. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly modifiedMs: number;
  readonly inode: number;
}

/** Whether a file was replaced or changed since its header was read. */
export async function hasChanged({ path, size, modifiedMs, inode }: WeightFile): Promise<boolean> {
  const now = await stat(path).catch(() => undefined);
  return now === undefined || now.size !== size || now.mtimeMs !== modifiedMs || now.ino !== inode;
}

/** Rows of a tensor. They are contiguous, so that a part of the first axis is a location of its own. */
export function rowsOf(location: TensorLocation, start: number, count: number): TensorLocation {
  const rowBytes = location.length / (location.shape[0] ?? 1);
  return {
    ...location,
    offset: location.offset + start * rowBytes,
    length: count * rowBytes,
    shape: [count, ...location.shape.slice(1)],
  };
}

/** How many numbers tensors hold together. */
export function parametersOf(tensors: Iterable<TensorLocation>): number {
  let sum = 0;
  for (const { shape } of tensors) {
    sum += shape.reduce((product, side) => product * side, 1);
  }
  return sum;
}

/** A tensor that is missing, left over, or not as the model needs it. */
export class WeightError extends Error {
  override readonly name = "WeightError";
  readonly label: string;
  readonly expected: string;
  readonly found: string;

  /** @param label see `WeightSource`. */
  constructor(label: string, expected: string, found: string) {
    super(`${label}: expected ${expected}, found ${found}`);
    this.label = label;
    this.expected = expected;
    this.found = found;
  }
}

/** Tensors that older versions of the tools saved beside the weights, and that no graph needs. */
const idle = /(?:^|\.)(?:position_ids|logit_scale|num_batches_tracked)$/;

/**
 * Finds tensors that no graph reads: they belong to a part that the engine does not build, so that the images would not be the model's.
 *
 * @param used names of the tensors that graphs read. @param allowed names that may be left over.
 * @throws WeightError that names the first one and how many there are.
 */
export function checkNothingLeft(source: WeightSource, used: ReadonlySet<string>, allowed: RegExp = /^$/): void {
  const left = source.tensors
    .map(({ name }) => name)
    .filter((name) => !used.has(name) && !idle.test(name) && !allowed.test(name));
  const [first] = left;
  if (first !== undefined) {
    const more = left.length > 1 ? ` and ${left.length - 1} more` : "";
    throw new WeightError(source.label, "the tensors of this model and no others", `${first}${more}`);
  }
}

const chunkBytes = 2 ** 22;

/** Bits that are all set in what is no finite number, by stored type: those of the exponent. */
const exponents: Readonly<Record<string, { readonly bytes: 2 | 4; readonly mask: number }>> = {
  F16: { bytes: 2, mask: 0x7c00 },
  BF16: { bytes: 2, mask: 0x7f80 },
  F32: { bytes: 4, mask: 0x7f800000 },
};

/**
 * Finds a tensor with an infinity or no number among its values. It reads all weights, so it is for the case that an image has
 * no numbers, to check whether the weights are the cause.
 */
export async function findNonFinite(
  sources: Iterable<Pick<WeightSource, "label" | "tensors">>,
): Promise<{ label: string; tensor: string } | undefined> {
  for (const { label, tensors } of sources) {
    for (const tensor of tensors) {
      if (await hasNonFinite(tensor)) {
        return { label, tensor: tensor.name };
      }
    }
  }
  return undefined;
}

async function hasNonFinite({ file, offset, length, dtype }: TensorLocation): Promise<boolean> {
  const exponent = exponents[dtype];
  if (exponent === undefined) {
    return false;
  }
  const { bytes, mask } = exponent;
  const handle = await open(file);
  try {
    const buffer = new ArrayBuffer(Math.min(chunkBytes, length));
    for (let done = 0; done < length; done += buffer.byteLength) {
      const count = Math.min(buffer.byteLength, length - done);
      await handle.read(new Uint8Array(buffer), 0, count, offset + done);
      const values = bytes === 2 ? new Uint16Array(buffer, 0, count / 2) : new Uint32Array(buffer, 0, count / 4);
      // Millions of values: a plain loop is many times faster than a callback for each.
      for (let i = 0; i < values.length; i++) {
        if (((values[i] ?? 0) & mask) === mask) {
          return true;
        }
      }
    }
    return false;
  } finally {
    await handle.close();
  }
}
