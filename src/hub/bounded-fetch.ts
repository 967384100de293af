import { HubError } from "./hub-error.js";

/** What the answers of an API may come to, all together. */
export interface FetchBounds {
  /** What the error is about: the model's id. */
  readonly subject: string;
  readonly maxRequests: number;
  readonly maxBytesPerAnswer: number;
}

/**
 * A `fetch` whose answers are read whole and are bounded in number and size, so that a server cannot keep its caller at it or fill its memory.
 *
 * @throws HubError `unusable` above a bound.
 */
export function boundFetch(
  inner: typeof fetch,
  { subject, maxRequests, maxBytesPerAnswer }: FetchBounds,
): typeof fetch {
  let requests = 0;
  return async (...request) => {
    if (++requests > maxRequests) {
      throw new HubError("unusable", subject, `its listing has more than ${maxRequests} pages; check HF_ENDPOINT`);
    }
    const { body, status, headers } = await inner(...request);
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of body ?? []) {
      size += chunk.length;
      if (size > maxBytesPerAnswer) {
        throw new HubError(
          "unusable",
          subject,
          `an answer about it is larger than ${maxBytesPerAnswer} bytes; check HF_ENDPOINT`,
        );
      }
      chunks.push(chunk);
    }
    return new Response(Buffer.concat(chunks), { status, headers });
  };
}
