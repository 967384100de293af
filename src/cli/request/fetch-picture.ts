import { printable } from "../../studio/printable.js";
import { CommandError } from "../command-error.js";

/** How far to go for a picture. */
export interface PictureFetch {
  /** Reading ends with an error where there are more. */
  readonly maxBytes: number;
  /** Milliseconds until it is given up, the last byte included; undefined for no end. */
  readonly timeoutMs: number | undefined;
  readonly interrupt: AbortSignal;
}

/**
 * Fetches from a URL that a server named. It follows no redirect, which could lead to where only this machine may go.
 *
 * @throws CommandError naming the URL, or the reason of `interrupt`.
 */
export async function fetchPicture(url: string, { maxBytes, timeoutMs, interrupt }: PictureFetch): Promise<Uint8Array> {
  const over = new AbortController();
  const giveUp = () => over.abort(new Error("the time for the request is over"));
  const timer = timeoutMs === undefined ? undefined : setTimeout(giveUp, timeoutMs);
  try {
    const response = await fetch(url, { signal: AbortSignal.any([interrupt, over.signal]), redirect: "error" });
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    return await readBody(response, maxBytes);
  } catch (error) {
    interrupt.throwIfAborted();
    // What fetch throws says only "fetch failed"; the reason is its cause.
    const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const words = printable(reason instanceof Error ? reason.message : String(reason));
    throw new CommandError(`cannot fetch the picture from ${printable(url)}: ${words}`, { cause: error });
  } finally {
    clearTimeout(timer);
    // What was not read is not wanted.
    over.abort();
  }
}

async function readBody({ body }: Response, maxBytes: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(maxBytes);
  let length = 0;
  for await (const chunk of body ?? []) {
    if (length + chunk.length > maxBytes) {
      throw new Error(`it has more than the ${maxBytes} bytes that it should have`);
    }
    bytes.set(chunk, length);
    length += chunk.length;
  }
  return bytes.subarray(0, length);
}
