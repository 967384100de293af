import type { Progress as Generation, Queued } from "../../gen/throughline/v1/image_pb.js";
import type { SpanRecord } from "../../trace/span-record.js";
import { CliError } from "../errors.js";
import { describeCallFailure, fetchTrace, type StudioSource } from "./studio-client.js";

/** A request of a pipeline, from its beginning on. */
export interface WatchedRequest {
  /** Empty where tracing is off. */
  readonly traceId: string;
  /** `Generate` or `GenerateStream`. */
  readonly method: string;
  /** When it began, in nanoseconds since 1970. */
  readonly startUnixNano: bigint;
}

/** One that has ended. */
export interface EndedRequest extends WatchedRequest {
  /** gRPC status code by name, such as `OK`. */
  readonly statusCode: string;
  readonly durationMs: number;
  /** Its trace, as far as it came. */
  readonly spans: readonly SpanRecord[];
}

/** Shows the requests of a pipeline. A request is the same object in each call about it. */
export interface RequestsView {
  began(request: WatchedRequest): void;
  queued(request: WatchedRequest, queued: Queued): void;
  progress(request: WatchedRequest, progress: Generation): void;
  /** It has its answer, and its trace is waited for. */
  answered(request: WatchedRequest): void;
  ended(request: WatchedRequest, ended: EndedRequest): void;
}

export interface WatchRequestsOptions {
  readonly pipeline: StudioSource;
  readonly collector: StudioSource;
  readonly view: RequestsView;
  /** Ends the watching. */
  readonly signal: AbortSignal;
}

/** A local system's spans come a fifth of a second after they ended, the worker's after the pipeline's. */
const traceIdleMs = 1000;
const traceWaitMs = 10_000;

/**
 * Shows the running requests of a pipeline in a view, each with its trace at its end, until `signal` is aborted.
 *
 * @throws CliError when the pipeline does not report them, or stops.
 */
export async function watchRequests({ pipeline, collector, view, signal }: WatchRequestsOptions): Promise<void> {
  const running = new Map<string, WatchedRequest>();
  const end = async (request: WatchedRequest, statusCode: string): Promise<void> => {
    const { traceId, startUnixNano } = request;
    const durationMs = Math.max(0, Date.now() - Number(startUnixNano) / 1e6);
    view.answered(request);
    const query = { ...collector, traceId, idleMs: traceIdleMs, waitMs: traceWaitMs, interrupt: signal };
    // Without a trace, the request is still shown.
    const spans = traceId === "" ? [] : await fetchTrace(query).catch(() => []);
    if (!signal.aborted) {
      view.ended(request, { ...request, statusCode, durationMs, spans });
    }
  };
  try {
    for await (const { traceId, startUnixNano, event } of pipeline.studio.watchRequests({}, { signal })) {
      const key = `${traceId} ${startUnixNano}`;
      const request = running.get(key);
      if (event.case === "started") {
        const begun = { traceId, startUnixNano, method: event.value.method };
        running.set(key, begun);
        view.began(begun);
      } else if (request !== undefined && event.case === "queued") {
        view.queued(request, event.value);
      } else if (request !== undefined && event.case === "progress") {
        view.progress(request, event.value);
      } else if (request !== undefined && event.case === "ended") {
        running.delete(key);
        void end(request, event.value.statusCode);
      }
    }
    throw new Error("it ended the call");
  } catch (error) {
    if (!signal.aborted) {
      throw new CliError(`requests are no longer shown: ${describeCallFailure(pipeline.server, error, "pipeline")}`, {
        cause: error,
      });
    }
  }
}
