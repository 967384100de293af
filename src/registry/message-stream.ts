import type { ConnectError } from "@connectrpc/connect";

/** Messages of a stream that other events may end. */
export interface MessageStream<Message> {
  /** Resolves with the next message, or undefined at the end of the stream. @throws the stream's error, or that of `fail` */
  next(): Promise<Message | undefined>;
  /** Ends the stream with an error. */
  fail(error: ConnectError): void;
  /** Stops listening to the signals. */
  close(): void;
}

/** Read a stream until it ends, or one of the signals is aborted. */
export function readMessages<Message>(
  messages: AsyncIterable<Message>,
  ends: readonly (readonly [signal: AbortSignal, error: () => ConnectError])[],
): MessageStream<Message> {
  const iterator = messages[Symbol.asyncIterator]();
  const closed = new AbortController();
  let failure: ConnectError | undefined;
  let reject = (_: ConnectError) => {};
  const fail = (error: ConnectError) => {
    failure ??= error;
    reject(failure);
  };
  for (const [signal, error] of ends) {
    signal.addEventListener("abort", () => fail(error()), { once: true, signal: closed.signal });
    if (signal.aborted) {
      fail(error());
    }
  }
  return {
    next() {
      // One promise a message: a race against a signal that lasts for days would keep a reaction of each message.
      return new Promise((resolve, rejectNext) => {
        reject = rejectNext;
        if (failure !== undefined) {
          rejectNext(failure);
          return;
        }
        iterator.next().then(({ done, value }) => resolve(done ? undefined : value), rejectNext);
      });
    },
    fail,
    close: () => closed.abort(),
  };
}
