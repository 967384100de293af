/**
 * Fetch that reliably ends a started response when its signal is aborted.
 *
 * Node 20's fetch holds the request weakly: after a garbage collection it ignores an abort, and the server continues to work. Here the
 * signal holds the body's reader.
 */
export const cancellableFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const signal = init?.signal;
  if (!signal || response.body === null) {
    return response;
  }
  const { status, statusText, headers } = response;
  return new Response(endedBy(signal, response.body.getReader()), { status, statusText, headers });
};

function endedBy(signal: AbortSignal, reader: ReadableStreamDefaultReader<Uint8Array>): ReadableStream<Uint8Array> {
  let abort = () => {};
  const settle = () => signal.removeEventListener("abort", abort);
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        abort = () => {
          settle();
          controller.error(signal.reason);
          // If fetch handled the abort, the body has already failed.
          reader.cancel(signal.reason).catch(() => {});
        };
        signal.addEventListener("abort", abort);
        if (signal.aborted) {
          abort();
        }
      },
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (signal.aborted) {
            return;
          }
          if (!done) {
            controller.enqueue(value);
            return;
          }
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        settle();
      },
      cancel(reason) {
        settle();
        return reader.cancel(reason);
      },
    },
    // Do not read ahead.
    { highWaterMark: 0 },
  );
}
