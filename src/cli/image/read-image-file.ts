import { open } from "node:fs/promises";
import { messageOf, usageError } from "../errors.js";

/** Which file to read, and its limit. */
export interface ImageFile {
  readonly path: string;
  /** Flag that names the file, for errors. */
  readonly flag: string;
  readonly maxBytes: number;
}

/** Reads a file. @throws CliError for one that cannot be read, is empty or is above the limit. */
export async function readImageFile({ path, flag, maxBytes }: ImageFile): Promise<Uint8Array> {
  const wrong = (reason: string, cause?: unknown) => usageError(`${flag} ${path}: ${reason}`, { cause });
  const file = await open(path).catch((error: unknown) => {
    throw wrong(isAbsent(error) ? "there is no such file" : messageOf(error), error);
  });
  try {
    const status = await file.stat();
    if (status.isDirectory()) {
      throw wrong("is a folder; name a PNG, JPEG or WebP file");
    }
    // One byte above the limit suffices to detect an excess, also of a pipe, which has no size.
    const bytes = Buffer.alloc(Math.min(maxBytes, status.isFile() ? status.size : maxBytes) + 1);
    const length = status.isFile() && status.size > maxBytes ? status.size : await fill(file, bytes);
    if (length > maxBytes) {
      const size = status.isFile() ? `has ${length} bytes` : "has more bytes";
      throw wrong(`${size}, and the limit is ${maxBytes} (${maxBytes / 2 ** 20} MiB); make the image smaller`);
    }
    if (length === 0) {
      throw wrong("is empty; name a PNG, JPEG or WebP file");
    }
    return bytes.subarray(0, length);
  } finally {
    await file.close();
  }
}

/** Read until the buffer is full or the file ends. @returns the number of bytes. */
async function fill(file: Awaited<ReturnType<typeof open>>, bytes: Buffer): Promise<number> {
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(bytes, length, bytes.byteLength - length);
    length += bytesRead;
    if (bytesRead === 0 || length === bytes.byteLength) {
      return length;
    }
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
