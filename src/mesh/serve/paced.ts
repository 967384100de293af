/** Callbacks run in one iteration of the event loop. */
const perTurn = 4;

/** Schedule a callback. */
export type Paced = (callback: () => void) => void;

/**
 * Create a queue that runs callbacks in order, a few in each iteration of the event loop. Otherwise the cancellations of a thousand clients
 * that disconnect together would block the event loop.
 */
export function createPaced(): Paced {
  const waiting: (() => void)[] = [];
  let scheduled = false;
  const runSome = (): void => {
    scheduled = false;
    for (const callback of waiting.splice(0, perTurn)) {
      callback();
    }
    schedule();
  };
  const schedule = (): void => {
    if (!scheduled && waiting.length > 0) {
      scheduled = true;
      setImmediate(runSome);
    }
  };
  return (callback) => {
    waiting.push(callback);
    schedule();
  };
}
