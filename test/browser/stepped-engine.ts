import { createFakeEngine } from "../../src/testing/fake-engine.js";

/** A fake engine that stands before steps until a test lets it go on. Prompts that begin with "broken" fail. */
export function createSteppedEngine() {
  const open = new Map<string, number>();
  let wake = () => {};
  const engine = createFakeEngine({
    async beforeStep(step, { prompt }, signal) {
      if (prompt.startsWith("broken")) {
        throw new Error("the engine is broken");
      }
      const onAbort = () => wake();
      signal.addEventListener("abort", onAbort);
      while (!signal.aborted && step > (open.get(prompt) ?? (prompt.startsWith("held") ? 0 : step))) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      signal.removeEventListener("abort", onAbort);
      signal.throwIfAborted();
    },
  });
  return {
    engine,
    /** Lets the generation of a prompt that begins with "held" run as far as this step. */
    allow(prompt: string, step: number) {
      open.set(prompt, step);
      wake();
    },
  };
}
