import type { GenerationLimits } from "../../src/engine/engine.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";

/** A fake engine whose generations stop before a step until they are released or cancelled, and which reports arrivals. */
export function createHeldEngine(holdAt = 2, limits?: GenerationLimits) {
  const reached = deferred();
  const released = deferred();
  const begun: string[] = [];
  let failure: Error | undefined;
  const engine = createFakeEngine({
    ...(limits && { limits }),
    async beforeStep(step, { prompt }, signal) {
      if (step === 1) {
        begun.push(prompt);
      }
      if (step === holdAt) {
        reached.resolve();
        const aborted = deferred();
        signal.addEventListener("abort", aborted.resolve, { once: true });
        await Promise.race([released.promise, aborted.promise]);
        signal.throwIfAborted();
        if (failure !== undefined) {
          const thrown = failure;
          failure = undefined;
          throw thrown;
        }
      }
    },
  });
  return {
    engine,
    /** Prompts in the order in which their generations began; images may be ready in another. */
    begun,
    reached: reached.promise,
    release: released.resolve,
    /** Ends the generation that stands with an error, and lets the others go. */
    fail(error: Error) {
      failure = error;
      released.resolve();
    },
  };
}

/** Promise.withResolvers, which Node 20 does not have. */
function deferred() {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
