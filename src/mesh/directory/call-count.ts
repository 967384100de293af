import type { Interceptor } from "@connectrpc/connect";

/** Counts the calls of a connection that run. */
export interface CallCount {
  /** Client interceptor that counts; the outermost, so that all attempts of a call are one. */
  readonly interceptor: Interceptor;
  /** Calls back once no call runs, at once where none does. */
  whenIdle(callback: () => void): void;
}

/** Makes a count. A call runs from its beginning until its answer, or its stream's last message, is read, or until it is aborted. */
export function createCallCount(): CallCount {
  let running = 0;
  let onIdle = () => {};

  const enter = (): (() => void) => {
    let left = false;
    running++;
    return () => {
      if (left) {
        return;
      }
      left = true;
      running--;
      if (running === 0) {
        onIdle();
      }
    };
  };

  return {
    interceptor: (next) => async (request) => {
      const leave = enter();
      try {
        const response = await next(request);
        if (!response.stream) {
          leave();
          return response;
        }
        // Nobody reads on after an abort.
        request.signal.addEventListener("abort", leave, { once: true });
        return { ...response, message: untilRead(response.message, leave) };
      } catch (error) {
        leave();
        throw error;
      }
    },
    whenIdle(callback) {
      if (running === 0) {
        callback();
      } else {
        onIdle = callback;
      }
    },
  };
}

async function* untilRead<T>(messages: AsyncIterable<T>, leave: () => void): AsyncGenerator<T> {
  try {
    yield* messages;
  } finally {
    leave();
  }
}
