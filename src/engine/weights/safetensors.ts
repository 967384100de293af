import { type FileHandle, open, realpath } from "node:fs/promises";
import * as z from "zod";
import { type TensorLocation, WeightError, type WeightFile } from "./tensor-location.js";

/*
 * The safetensors format: eight bytes with the length of a JSON header, the header, and the values of the tensors one after the other.
 * Source: https://github.com/huggingface/safetensors#format.
 */

/** The tensors of one file, and what its maker wrote beside them. */
export interface SafetensorsFile extends WeightFile {
  readonly tensors: ReadonlyMap<string, TensorLocation>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The format's own limit. SDXL's header of 2,600 tensors takes 0.4 MB. */
const maxHeaderBytes = 100_000_000;
/** No header was ever so long: the file is of another format. */
const unlikelyBytes = 2 ** 40;
const lengthBytes = 8;

const count = z.int().min(0);
const tensorSchema = z.object({ dtype: z.string(), shape: z.array(count), data_offsets: z.tuple([count, count]) });
const headerSchema = z
  .object({ __metadata__: z.record(z.string(), z.string()).optional() })
  .catchall(tensorSchema)
  .transform(({ __metadata__: metadata = {}, ...tensors }) => ({ metadata, tensors }));

/** Bits of an element of each type. */
const elementBits: Readonly<Record<string, number>> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
};

/**
 * Reads the header of a safetensors file and checks all of it. The values are not read.
 *
 * @param label what errors call the file.
 * @throws WeightError when the file is cut off, or violates the format.
 */
export async function readSafetensors(path: string, label: string): Promise<SafetensorsFile> {
  const file = await realpath(path);
  const handle = await open(file);
  try {
    const { size, mtimeMs, ino } = await handle.stat();
    const { header, dataStart } = await readHeader(handle, size, label);
    const tensors = new Map<string, TensorLocation>();
    for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header.tensors)) {
      const [from, to] = offsets;
      tensors.set(name, { name, file, offset: dataStart + from, length: to - from, dtype, shape });
    }
    checkLayout([...tensors.values()], { label, dataStart, size });
    return { path: file, size, modifiedMs: mtimeMs, inode: ino, tensors, metadata: header.metadata };
  } finally {
    await handle.close();
  }
}

async function readHeader(handle: FileHandle, size: number, label: string) {
  const noFile = (found: string): WeightError => new WeightError(label, "a safetensors file", found);
  if (size < lengthBytes) {
    throw noFile(`${size} bytes`);
  }
  const prefix = Buffer.alloc(lengthBytes);
  await handle.read(prefix, 0, lengthBytes, 0);
  const kind = otherFormat(prefix);
  if (kind !== undefined) {
    throw noFile(kind);
  }
  const length = Number(prefix.readBigUInt64LE());
  if (length > unlikelyBytes) {
    throw noFile("other bytes than the length of a header");
  }
  if (length > maxHeaderBytes) {
    throw noFile(`a header of ${length} bytes, above the format's limit of ${maxHeaderBytes}`);
  }
  if (lengthBytes + length > size) {
    throw noFile(`a header of ${length} bytes in a file of ${size}: the file is cut off, fetch it again`);
  }
  const bytes = Buffer.alloc(length);
  await handle.read(bytes, 0, length, lengthBytes);
  const result = headerSchema.safeParse(parseJson(bytes.toString("utf8")));
  if (!result.success) {
    const [issue] = result.error.issues;
    const where = issue?.path.length ? ` at ${JSON.stringify(issue.path.join("."))}` : "";
    throw noFile(`a header that is not one${where}`);
  }
  return { header: result.data, dataStart: lengthBytes + length };
}

/** The formats that checkpoints have besides, by their first bytes. */
function otherFormat(prefix: Buffer): string | undefined {
  const start = prefix.toString("latin1");
  if (start.startsWith("PK\u0003\u0004") || prefix[0] === 0x80) {
    return "a PyTorch checkpoint (.ckpt, .pt, .bin), which can hold programs; take the .safetensors form";
  }
  if (start.startsWith("GGUF")) {
    return "a GGUF file; take the .safetensors form";
  }
  if (start.startsWith("version ")) {
    return "a pointer of Git LFS (run `git lfs pull` in the repository)";
  }
  return undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Tensors fill the data without a gap, in some order, each with the length of its shape and type. */
function checkLayout(
  tensors: readonly TensorLocation[],
  { label, dataStart, size }: { readonly label: string; readonly dataStart: number; readonly size: number },
): void {
  let end = dataStart;
  for (const { name, offset, length, dtype, shape } of [...tensors].sort(byPlace)) {
    const bits = elementBits[dtype];
    // Newer types are not read until a model needs one.
    const bytes = bits === undefined ? length : (shape.reduce((product, side) => product * side, 1) * bits) / 8;
    if (length !== bytes || length < 0) {
      throw new WeightError(label, `${bytes} bytes for ${name}, ${dtype} [${shape}]`, `${length} bytes`);
    }
    if (offset !== end) {
      const found = offset < end ? "bytes that another tensor has too" : "a gap before it";
      throw new WeightError(label, `${name} behind the tensor before it`, found);
    }
    end = offset + length;
  }
  if (end !== size) {
    const found = end > size ? `${size}: the file is cut off, fetch it again` : `${size}`;
    throw new WeightError(label, `${end} bytes`, found);
  }
}

/** A tensor without values stands before the one that begins where it does. */
function byPlace(a: TensorLocation, b: TensorLocation): number {
  return a.offset - b.offset || a.length - b.length;
}
