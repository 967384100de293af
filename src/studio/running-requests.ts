import { isMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, type Interceptor, type StreamResponse } from "@connectrpc/connect";
import type { WatchRequestsResponseSchema } from "../gen/throughline/studio/v1/studio_pb.js";
import { GenerateStreamResponseSchema, ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import { createConnectError } from "../mesh/errors/errors.js";
import { createNotifier } from "../mesh/serve/stream-notifier.js";
import { grpcStatusName, leftCodeOf, serverCodeOf } from "../otelconnect/errors.js";
import { watchStream } from "../otelconnect/watched-stream.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import { traceIdOf } from "../trace/span-scope.js";

/** Updates of one request, as the contract has it. */
export type RequestUpdate = MessageInitShape<typeof WatchRequestsResponseSchema>;
type UpdateEvent = NonNullable<RequestUpdate["event"]>;

/** State of a running request. */
export type RequestState = Extract<UpdateEvent, { readonly case: "queued" | "progress" }>;

/** A request at its start. It has no content of the request. */
export interface RequestBegin {
  /** `Generate` or `GenerateStream`. */
  readonly method: string;
  /** Empty where tracing is off. */
  readonly traceId: string;
}

/** A running request. */
export interface RunningRequest {
  /** Reports a new state. */
  report(state: RequestState): void;
  /**
   * Reports its end.
   *
   * @param statusCode gRPC status code by name.
   */
  end(statusCode: string): void;
}

/** The running requests and their watchers. */
export interface RunningRequests {
  /** Registers a request that starts now. */
  begin(request: RequestBegin): RunningRequest;
  /**
   * Yields each running request and its updates. A slow reader gets the latest update only. Ends when the signal is aborted.
   *
   * @throws ConnectError RESOURCE_EXHAUSTED when there are too many watchers.
   */
  watch(signal: AbortSignal): AsyncGenerator<RequestUpdate>;
  /** Current number of watchers. */
  watcherCount(): number;
}

/** Options of {@link createRunningRequests}. */
export interface RunningRequestsOptions {
  /** Maximum number of registered requests; further ones are not reported. @default 1,000 */
  readonly maxRequests?: number;
  /** @default 64 */
  readonly maxWatchers?: number;
}

interface Entry extends RequestBegin {
  readonly startUnixNano: bigint;
  state: RequestState | undefined;
  statusCode: string | undefined;
}

/** A watcher's queue, bounded by the number of running requests. */
interface Watcher {
  note(entry: Entry): void;
}

/** Creates an empty register. */
export function createRunningRequests(options: RunningRequestsOptions = {}): RunningRequests {
  const { maxRequests = 1000, maxWatchers = 64 } = options;
  const running = new Set<Entry>();
  const watchers = new Set<Watcher>();
  let lastStart = 0n;

  const change = (entry: Entry) => {
    for (const watcher of watchers) {
      watcher.note(entry);
    }
  };

  async function* watch(signal: AbortSignal): AsyncGenerator<RequestUpdate> {
    const notifier = createNotifier();
    const changed = new Set<Entry>();
    /** Requests whose start was sent and whose end was not, with the last sent state. */
    const sent = new Map<Entry, RequestState | undefined>();
    const watcher: Watcher = {
      note(entry) {
        changed.add(entry);
        notifier.notify();
        if (changed.size > 2 * maxRequests) {
          forgetOne(changed, sent);
        }
      },
    };
    if (watchers.size >= maxWatchers) {
      throw createConnectError({
        code: Code.ResourceExhausted,
        message: `the requests have ${maxWatchers} watchers already, the maximum`,
      });
    }
    watchers.add(watcher);
    try {
      for (const entry of running) {
        watcher.note(entry);
      }
      do {
        for (const entry of changed) {
          changed.delete(entry);
          const { traceId, startUnixNano, method, state, statusCode } = entry;
          const updates = (event: UpdateEvent): RequestUpdate => ({ traceId, startUnixNano, event });
          if (!sent.has(entry)) {
            sent.set(entry, undefined);
            yield updates({ case: "started", value: { method } });
          }
          if (statusCode !== undefined) {
            sent.delete(entry);
            yield updates({ case: "ended", value: { statusCode } });
          } else if (state !== undefined && sent.get(entry) !== state) {
            sent.set(entry, state);
            yield updates(state);
          }
        }
      } while ((await notifier.wait(signal)) !== "aborted");
    } finally {
      watchers.delete(watcher);
    }
  }

  return {
    begin(request) {
      if (running.size >= maxRequests) {
        return { report() {}, end() {} };
      }
      const now = BigInt(Date.now()) * 1_000_000n;
      // Without trace ids, it distinguishes requests.
      lastStart = now > lastStart ? now : lastStart + 1n;
      const entry: Entry = { ...request, startUnixNano: lastStart, state: undefined, statusCode: undefined };
      running.add(entry);
      change(entry);
      return {
        report(state) {
          entry.state = state;
          change(entry);
        },
        end(statusCode) {
          entry.statusCode = statusCode;
          running.delete(entry);
          change(entry);
        },
      };
    },
    watch,
    watcherCount: () => watchers.size,
  };
}

/** Removes the first ended request of which a slow reader got nothing yet. */
function forgetOne(changed: Set<Entry>, sent: ReadonlyMap<Entry, unknown>): void {
  for (const entry of changed) {
    if (entry.statusCode !== undefined && !sent.has(entry)) {
      changed.delete(entry);
      return;
    }
  }
}

/**
 * Reports a pipeline's calls to a register: their start, their progress and their status code, without previews and results. It must run
 * inside the span's interceptor, for the trace id.
 */
export function createRequestReporter(requests: RunningRequests): Interceptor {
  return (next) => async (call) => {
    if (call.service.typeName !== ImagePipelineService.typeName) {
      return next(call);
    }
    const { method, signal, contextValues } = call;
    const request = requests.begin({ method: method.name, traceId: traceIdOf(contextValues.get(serverScope)) });
    const fail = (error: unknown) => request.end(grpcStatusName(serverCodeOf(error, signal)));
    try {
      const response = await next(call);
      if (response.stream) {
        const left = () => request.end(grpcStatusName(leftCodeOf(signal)));
        return { ...response, message: reported(response, request, { failed: fail, left }) };
      }
      request.end("OK");
      return response;
    } catch (error) {
      fail(error);
      throw error;
    }
  };
}

function reported(
  { message: messages }: StreamResponse,
  request: RunningRequest,
  endings: { readonly failed: (error: unknown) => void; readonly left: () => void },
): StreamResponse["message"] {
  return watchStream(messages, {
    ...endings,
    message(message) {
      if (!isMessage(message, GenerateStreamResponseSchema)) {
        return;
      }
      const { event } = message;
      if (event.case === "queued") {
        request.report(event);
      } else if (event.case === "progress") {
        const { stage, step, totalSteps } = event.value;
        request.report({ case: "progress", value: { stage, step, totalSteps } });
      }
    },
    done: () => request.end("OK"),
  });
}
