import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";

/** Opens real sessions and calls back before each run of a sub-model; the run waits for the callback. */
export function countingSessions(onRun: (subModel: string) => void | Promise<void>): OpenSession {
  const open = createSessionOpener({ threads: 1 });
  return async (graph) => {
    const session = await open(graph);
    return {
      ...session,
      async run(feeds, wanted) {
        await onRun(graph.subModel);
        return session.run(feeds, wanted);
      },
    };
  };
}
