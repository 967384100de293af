import { Code } from "@connectrpc/connect";
import { createConnectError } from "./connect-error.js";
import { deadlineExceeded, toClientError } from "./errors.js";

/** Limits of {@link readBody}. */
export interface BodyLimits {
  /** More bytes than this are refused without being read. */
  readonly maxBytes: number;
  /** Time for the whole body to arrive, in milliseconds. */
  readonly timeoutMs: number;
}

/**
 * Reads a whole request body. Throws a ConnectError: RESOURCE_EXHAUSTED above the size, DEADLINE_EXCEEDED above the time, CANCELED
 * where the client leaves.
 */
export async function readBody(
  body: AsyncIterable<Uint8Array>,
  { maxBytes, timeoutMs }: BodyLimits,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  const iterator = body[Symbol.asyncIterator]();
  let timer: NodeJS.Timeout | undefined;
  const timedOut = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(deadlineExceeded("waiting for the request's body")), timeoutMs);
  });
  try {
    for (;;) {
      const result = await Promise.race([iterator.next(), timedOut]);
      if (result.done === true) {
        return Buffer.concat(chunks);
      }
      chunks.push(result.value);
      length += result.value.byteLength;
      if (length > maxBytes) {
        void iterator.return?.();
        throw messageTooLarge(maxBytes);
      }
    }
  } catch (error) {
    // A broken connection shows itself as an error of the stream, a moment before or after the signal.
    throw isReset(error) ? toClientError(new DOMException("", "AbortError"), signal) : toClientError(error, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** RESOURCE_EXHAUSTED without RetryInfo: trying again does not make a message smaller. */
export function messageTooLarge(maxBytes: number) {
  return createConnectError({
    code: Code.ResourceExhausted,
    message: `the message is larger than the limit of ${maxBytes} bytes`,
  });
}

function isReset(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "string" &&
    /RESET|ABORT|PREMATURE|DESTROY|STREAM/.test(error.code)
  );
}
