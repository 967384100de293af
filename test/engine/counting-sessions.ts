import { basename, dirname } from "node:path";
import type { OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";

/** Opens real sessions and tells of each run of a sub-model before it begins; the run waits for the callback. */
export function countingSessions(onRun: (subModel: string) => void | Promise<void>): OpenSession {
  const open = createSessionOpener({ threads: 1 });
  return async (file) => {
    const session = await open(file);
    return {
      ...session,
      async run(feeds, wanted) {
        await onRun(basename(dirname(file)));
        return session.run(feeds, wanted);
      },
    };
  };
}
