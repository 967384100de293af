import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";
import type { SpanRecord } from "../trace/span-record.js";
import type { SpanStore } from "./span-store.js";
import { formatTrace } from "./trace-text.js";
import { traceToJson } from "./trace-tree.js";

const formats = {
  json: {
    contentType: "application/json",
    write: (spans: readonly SpanRecord[]) => JSON.stringify(traceToJson(spans)),
  },
  text: { contentType: "text/plain; charset=utf-8", write: (spans: readonly SpanRecord[]) => formatTrace(spans) },
} as const;

const tracePath = /^\/traces\/([0-9a-f]{32})$/;
const wholeNumber = /^\d{1,6}$/;
const maxSpans = 10_000;
const maxWaitMs = 60_000;

export interface TraceRouteOptions {
  /** Called with the reason when a trace cannot be written; the client gets a general error. */
  readonly onInternalError?: (error: unknown) => void;
}

/**
 * Serves `GET /traces/<trace id>?spans=<count>&wait=<milliseconds>&format=<json|text>`: answers with the stored spans as soon as there
 * are so many, or when the wait is over: as `{"spans": […]}`, or as a tree for a terminal. Absent: 0 spans, no wait, JSON.
 *
 * Returns false when the path is not below `/traces/`, so that another route may take it.
 */
export function createTraceRoute(
  store: SpanStore,
  options: TraceRouteOptions = {},
): (request: NodeRequest, response: NodeResponse) => boolean {
  return (request, response) => {
    // Not parsed as a URL: a client's path may be none.
    const [path = "", query] = (request.url ?? "").split("?", 2);
    if (!path.startsWith("/traces/")) {
      return false;
    }
    const parameters = new URLSearchParams(query);
    const traceId = tracePath.exec(path)?.[1];
    const spans = numberOf(parameters, "spans", maxSpans);
    const waitMs = numberOf(parameters, "wait", maxWaitMs);
    const format = parameters.get("format") ?? "json";
    if (traceId === undefined) {
      respondPlain(response, 404, "a trace id is 32 lower-case hexadecimal digits");
    } else if (request.method !== "GET") {
      respondPlain(response, 405, "only GET", { allow: "GET" });
    } else if (spans === undefined || waitMs === undefined) {
      respondPlain(response, 400, `spans must be 0 to ${maxSpans}, and wait 0 to ${maxWaitMs} milliseconds`);
    } else if (format !== "json" && format !== "text") {
      respondPlain(response, 400, "format must be json or text");
    } else {
      const { contentType, write } = formats[format];
      waitForSpans(store, { traceId, spans, waitMs }, response)
        .then((found) => respondPlain(response, 200, write(found), { "content-type": contentType }))
        .catch((error: unknown) => {
          options.onInternalError?.(error);
          respondPlain(response, 500, "the trace cannot be written");
        });
    }
    return true;
  };
}

interface TraceQuery {
  readonly traceId: string;
  readonly spans: number;
  readonly waitMs: number;
}

async function waitForSpans(store: SpanStore, query: TraceQuery, response: NodeResponse): Promise<SpanRecord[]> {
  const over = new AbortController();
  const stop = () => over.abort();
  const timer = setTimeout(stop, query.waitMs);
  // The client may disconnect before the wait is over.
  response.on("close", stop);
  try {
    return await store.waitForTrace(query.traceId, (spans) => spans.length >= query.spans, over.signal);
  } catch {
    return store.spansOf(query.traceId);
  } finally {
    clearTimeout(timer);
  }
}

/** A number of the query; 0 where it is absent, undefined where it is nonsense. */
function numberOf(parameters: URLSearchParams, name: string, maximum: number): number | undefined {
  const text = parameters.get(name) ?? "0";
  const value = Number(text);
  return wholeNumber.test(text) && value <= maximum ? value : undefined;
}
