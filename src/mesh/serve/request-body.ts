import { Code } from "@connectrpc/connect";
import { createConnectError } from "../errors/connect-error.js";
import { deadlineExceeded, toClientError } from "../errors/errors.js";
import type { BodyMemory } from "./body-memory.js";

/** Limits of {@link readBody}. */
export interface BodyLimits {
  /** More bytes than this are refused without being read. */
  readonly maxBytes: number;
  /** Time for the whole body to arrive, in milliseconds. */
  readonly timeoutMs: number;
  /** Holds the body until it is whole. */
  readonly memory: BodyMemory;
}

/**
 * Reads a whole request body. Throws a ConnectError: RESOURCE_EXHAUSTED above the size or where memory is short, DEADLINE_EXCEEDED
 * above the time, CANCELED where the client leaves.
 */
export async function readBody(
  body: AsyncIterable<Uint8Array>,
  { maxBytes, timeoutMs, memory }: BodyLimits,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const buffer = memory.createBuffer();
  let isOver = false;
  let timer: NodeJS.Timeout | undefined;
  const timedOut = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(deadlineExceeded("waiting for the request's body")), timeoutMs);
  });
  async function gather(): Promise<Uint8Array> {
    for await (const chunk of body) {
      if (isOver) {
        break;
      }
      buffer.append(chunk);
      if (buffer.bytes().byteLength > maxBytes) {
        throw messageTooLarge(maxBytes);
      }
    }
    return buffer.bytes();
  }
  try {
    // One race for the body: one for each chunk would stay in memory until the timer's promise is gone.
    return await Promise.race([gather(), timedOut]);
  } catch (error) {
    // A broken connection shows itself as an error of the stream, a moment before or after the signal.
    throw isReset(error) ? toClientError(new DOMException("", "AbortError"), signal) : toClientError(error, signal);
  } finally {
    isOver = true;
    clearTimeout(timer);
    buffer.release();
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
