import type { ModelSession, OpenSession } from "../../src/engine/sessions.js";
import { createSessionOpener } from "../../src/engine/sessions-onnx.js";

export interface SharedSessions {
  readonly openSession: OpenSession;
  release(): Promise<void>;
}

/**
 * Sessions for several engines over the same weights, whatever files these are in: each sub-model is opened once, from the files of the
 * first engine, and stays open until `release`. The UNet takes a second of processor time to open. Graphs with LoRAs are each opened anew.
 */
export function sharedSessions(open: OpenSession = createSessionOpener({ threads: 1 })): SharedSessions {
  const sessions = new Map<string, Promise<ModelSession>>();
  return {
    async openSession(graph) {
      // LoRAs are over weights in their files.
      if (graph.kind === "built" && graph.residence === "mapped") {
        return open(graph);
      }
      const session = sessions.get(graph.subModel) ?? open(graph);
      sessions.set(graph.subModel, session);
      return { ...(await session), async release() {} };
    },
    async release() {
      await Promise.all([...sessions.values()].map(async (session) => (await session).release()));
    },
  };
}
