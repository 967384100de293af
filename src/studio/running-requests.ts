import { isMessage, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, type Interceptor, type StreamResponse } from "@connectrpc/connect";
import { context } from "@opentelemetry/api";
import type { WatchRequestsResponseSchema } from "../gen/throughline/studio/v1/studio_pb.js";
import { GenerateStreamResponseSchema, ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import { createConnectError } from "../mesh/errors/errors.js";
import { createNotifier } from "../mesh/serve/stream-notifier.js";
import { bindIterable } from "../otelconnect/bind-iterable.js";
import { grpcStatusName, leftCodeOf, serverCodeOf } from "../otelconnect/errors.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import { traceIdOf } from "../trace/span-scope.js";

/** Updates of one request, as the contract has it. */
export type RequestUpdate = MessageInitShape<typeof WatchRequestsResponseSchema>;
type UpdateEvent = NonNullable<RequestUpdate["event"]>;

/** What a request may say of itself while it runs. */
export type RequestState = Extract<UpdateEvent, { readonly case: "queued" | "progress" }>;

/** What is known of a request when it begins: nothing of what it asks for. */
export interface RequestBegin {
  /** `Generate` or `GenerateStream`. */
  readonly method: string;
  /** Empty where tracing is off. */
  readonly traceId: string;
}

/** A request that runs. */
export interface RunningRequest {
  /** Says how far it is. */
  tell(state: RequestState): void;
  /**
   * Says that it ended.
   *
   * @param statusCode gRPC status code by name.
   */
  end(statusCode: string): void;
}

/** The requests that run, and those who watch them. */
export interface RunningRequests {
  /** Tells of a request from now on. */
  begin(request: RequestBegin): RunningRequest;
  /**
   * Each request that runs, and updates of it: the latest, where the reader is slow. Ends when the signal is aborted.
   *
   * @throws ConnectError RESOURCE_EXHAUSTED when there are too many watchers.
   */
  watch(signal: AbortSignal): AsyncGenerator<RequestUpdate>;
  /** How many watch now. */
  watcherCount(): number;
}

/** Options of {@link createRunningRequests}. */
export interface RunningRequestsOptions {
  /** Most requests that are known of at a time; what begins beyond them is not told of. @default 1,000 */
  readonly maxRequests?: number;
  /** @default 64 */
  readonly maxWatchers?: number;
}

interface Entry extends RequestBegin {
  readonly startUnixNano: bigint;
  state: RequestState | undefined;
  statusCode: string | undefined;
}

/** A watcher's memory: bounded by the requests that run, whatever it reads. */
interface Watcher {
  note(entry: Entry): void;
}

/** Makes an empty register. */
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
    /** Whose beginning was told and whose end was not, with the state told last. */
    const told = new Map<Entry, RequestState | undefined>();
    const watcher: Watcher = {
      note(entry) {
        changed.add(entry);
        notifier.ring();
        if (changed.size > 2 * maxRequests) {
          forgetOne(changed, told);
        }
      },
    };
    if (watchers.size >= maxWatchers) {
      throw createConnectError({ code: Code.ResourceExhausted, message: `${maxWatchers} watch the requests already` });
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
          if (!told.has(entry)) {
            told.set(entry, undefined);
            yield updates({ case: "started", value: { method } });
          }
          if (statusCode !== undefined) {
            told.delete(entry);
            yield updates({ case: "ended", value: { statusCode } });
          } else if (state !== undefined && told.get(entry) !== state) {
            told.set(entry, state);
            yield updates(state);
          }
        }
      } while ((await notifier.wait(signal)) !== "left");
    } finally {
      watchers.delete(watcher);
    }
  }

  return {
    begin(request) {
      if (running.size >= maxRequests) {
        return { tell() {}, end() {} };
      }
      const now = BigInt(Date.now()) * 1_000_000n;
      // Requests are told apart by it where there are no trace ids.
      lastStart = now > lastStart ? now : lastStart + 1n;
      const entry: Entry = { ...request, startUnixNano: lastStart, state: undefined, statusCode: undefined };
      running.add(entry);
      change(entry);
      return {
        tell(state) {
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

/** Of what a slow reader did not read yet, the first request that it never heard of and that is over. */
function forgetOne(changed: Set<Entry>, told: ReadonlyMap<Entry, unknown>): void {
  for (const entry of changed) {
    if (entry.statusCode !== undefined && !told.has(entry)) {
      changed.delete(entry);
      return;
    }
  }
}

/**
 * Reports a pipeline's calls to a register: that they began, how far they are, and the code that they ended with. Of previews and results it
 * reports nothing. It has to run inside the span's interceptor, for the trace id.
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
  return bindIterable(context.active(), () => messages, {
    ...endings,
    message(message) {
      if (!isMessage(message, GenerateStreamResponseSchema)) {
        return;
      }
      const { event } = message;
      if (event.case === "queued") {
        request.tell(event);
      } else if (event.case === "progress") {
        const { stage, step, totalSteps } = event.value;
        request.tell({ case: "progress", value: { stage, step, totalSteps } });
      }
    },
    done: () => request.end("OK"),
  });
}
