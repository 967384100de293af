/** Callbacks that run in one turn of the event loop. */
const perTurn = 4;

/** Runs a callback soon. */
export type Paced = (callback: () => void) => void;

/**
 * Makes a queue that runs callbacks soon and in their order, a few in each turn of the event loop. What a thousand clients that leave together
 * set off would else be one turn, and nobody would be answered meanwhile.
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
