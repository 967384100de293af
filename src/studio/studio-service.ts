import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { StudioService, type TraceSummarySchema } from "../gen/throughline/studio/v1/studio_pb.js";
import { createConnectError } from "../mesh/errors/connect-error.js";
import { toSpanMessage } from "./span-message.js";
import type { SpanStore } from "./span-store.js";
import { summarizeTrace } from "./trace-summary.js";
import { watchEntityMap } from "./watch-entity-map.js";
import { watchTrace } from "./watch-trace.js";

/** What a request of the studio means where it says nothing, as the contract has it. */
const defaults = { limit: 20, idleMs: 10_000, windowSeconds: 300 };

/** Most who watch the map at a time: each is told of all apps at each change. */
const maxMapWatchers = 32;

/** Registers StudioService as a collector serves it, from the spans that it has. The contract's rules have to be checked before. */
export function studioRoutes(store: SpanStore): (router: ConnectRouter) => void {
  let mapWatchers = 0;
  return (router) => {
    router.service(StudioService, {
      getStudio: () => ({ hasTraces: true }),
      listTraces({ limit = defaults.limit }) {
        const nowUnixNano = BigInt(Date.now()) * 1_000_000n;
        const traces: MessageInitShape<typeof TraceSummarySchema>[] = [];
        for (const id of store.traceIds()) {
          if (traces.length === limit) {
            break;
          }
          const summary = summarizeTrace({ ended: store.spansOf(id), running: store.runningSpansOf(id), nowUnixNano });
          // Of a trace whose spans are all lost there is nothing to tell.
          if (summary !== undefined) {
            traces.push(summary);
          }
        }
        return { traces };
      },
      async *watchTrace({ traceId, idleMs = defaults.idleMs }, { signal }) {
        for await (const spans of watchTrace(store, { traceId, idleMs, signal })) {
          yield { spans: spans.map(toSpanMessage) };
        }
      },
      async *watchEntityMap({ windowSeconds = defaults.windowSeconds }, { signal }) {
        if (mapWatchers >= maxMapWatchers) {
          const message = `${maxMapWatchers} watch the map of the collector already`;
          throw createConnectError({ code: Code.ResourceExhausted, message });
        }
        mapWatchers++;
        try {
          yield* watchEntityMap(store, { windowSeconds, signal });
        } finally {
          mapWatchers--;
        }
      },
      // biome-ignore lint/correctness/useYield: it only says why there is nothing.
      async *watchRequests() {
        throw createConnectError({
          code: Code.Unimplemented,
          message: "a collector knows of no requests: the pipeline does, where its studio is switched on",
        });
      },
    });
  };
}
