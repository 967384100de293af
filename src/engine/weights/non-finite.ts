import { open } from "node:fs/promises";
import type { TensorLocation, WeightSource } from "./tensor-location.js";

const chunkBytes = 2 ** 22;

/** Bits that are all set in what is no finite number, by stored type: those of the exponent. */
const exponents: Readonly<Record<string, { readonly bytes: 2 | 4; readonly mask: number }>> = {
  F16: { bytes: 2, mask: 0x7c00 },
  BF16: { bytes: 2, mask: 0x7f80 },
  F32: { bytes: 4, mask: 0x7f800000 },
};

/**
 * Finds a tensor with an infinity or no number among its values. It reads all weights, so that it is for when an image has come out
 * without numbers, to say whether they are why.
 */
export async function findNonFinite(
  sources: Iterable<WeightSource>,
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
      if (values.some((value) => (value & mask) === mask)) {
        return true;
      }
    }
    return false;
  } finally {
    await handle.close();
  }
}
