import { Code } from "@connectrpc/connect";
import { createConnectError } from "../errors/connect-error.js";
import { retryInfo } from "../errors/retry-info.js";

/** The memory that all request bodies of one handler share while they arrive. */
export interface BodyMemory {
  /** An empty buffer for one body. */
  createBuffer(): BodyBuffer;
}

/** Bytes in the order in which they came, however small the pieces were. */
export interface BodyBuffer {
  /** Adds bytes at the end. Throws RESOURCE_EXHAUSTED where the shared memory is used up. */
  append(chunk: Uint8Array): void;
  /** What was added and not dropped; valid until the next call of `append`. */
  bytes(): Uint8Array;
  /** Takes bytes off the front. */
  drop(length: number): void;
  /** Gives the memory back. What `bytes` returned stays valid. */
  release(): void;
}

/** Each body's first bytes are not counted, so that large bodies which never end do not keep ordinary requests out. */
const uncountedBytes = 16_384;

const retryDelayMs = 1_000;

/** Makes memory for bodies. @param maxBytes of all of them together. */
export function createBodyMemory(maxBytes: number): BodyMemory {
  let usedBytes = 0;

  function createBuffer(): BodyBuffer {
    let buffer = Buffer.alloc(0);
    let start = 0;
    let end = 0;

    function reserve(capacity: number): void {
      const counted = (bytes: number) => Math.max(0, bytes - uncountedBytes);
      const used = usedBytes + counted(capacity) - counted(buffer.byteLength);
      if (used > maxBytes && used > usedBytes) {
        throw createConnectError({
          code: Code.ResourceExhausted,
          message: "too many large requests are arriving at once",
          details: [retryInfo(retryDelayMs)],
        });
      }
      usedBytes = used;
      const moved = Buffer.allocUnsafeSlow(capacity);
      buffer.copy(moved, 0, start, end);
      [buffer, start, end] = [moved, 0, end - start];
    }

    return {
      append(chunk) {
        if (end + chunk.byteLength > buffer.byteLength) {
          const needed = end - start + chunk.byteLength;
          reserve(needed > buffer.byteLength ? Math.max(needed, 2 * buffer.byteLength) : buffer.byteLength);
        }
        buffer.set(chunk, end);
        end += chunk.byteLength;
      },
      bytes: () => buffer.subarray(start, end),
      drop(length) {
        start += length;
        if (start === end) {
          reserve(0);
        }
      },
      release() {
        start = end;
        reserve(0);
      },
    };
  }

  return { createBuffer };
}
