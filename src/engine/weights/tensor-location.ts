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
