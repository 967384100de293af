import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Client,
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  type HandlerContext,
} from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { StudioService, type WatchRequestsResponseSchema } from "../gen/throughline/studio/v1/studio_pb.js";
import { callerOf } from "../mesh/access/callers.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { createConnectError, unavailable } from "../mesh/errors/errors.js";

/** What a pipeline's studio is made of. */
export interface StudioRelayOptions {
  /** Whom traces and the map are asked of. Undefined: there are none. */
  readonly collector: Client<typeof StudioService> | undefined;
  /** The worker apps. */
  readonly directory: Pick<AppDirectory, "appIds" | "defaultApp">;
  /** The pipeline's requests, until the signal is aborted. */
  readonly watchRequests: (signal: AbortSignal) => AsyncIterable<MessageInitShape<typeof WatchRequestsResponseSchema>>;
  /** URL of a trace in another backend, with `{traceId}` in it. */
  readonly traceUrlTemplate: string | undefined;
  /** Name of that backend. */
  readonly traceBackend: string | undefined;
  /** Whether the pipeline has jobs. @default false */
  readonly hasJobs?: boolean | undefined;
  /** Aborted when the pipeline begins to end: streams end with it. */
  readonly ending: AbortSignal;
  /** Called with the reason when the collector cannot be reached; the caller gets a general error. */
  readonly onCollectorAway: (error: ConnectError) => void;
}

/** Milliseconds that the collector has for an answer, where the caller gives no time. */
const answerMs = 5_000;

/** Most streams at a time: they share one connection to the collector, and a call beyond its 256 would wait there for ever. */
const maxWatchers = 128;

/** Codes about the request itself; the caller gets the collector's error. */
const passedOn: ReadonlySet<Code> = new Set([Code.InvalidArgument, Code.ResourceExhausted]);

/** Registers StudioService as a pipeline serves it: requests and apps are its own, traces and the map are its collector's. */
export function studioRelayRoutes(options: StudioRelayOptions): (router: ConnectRouter) => void {
  const { directory, ending } = options;

  let watchers = 0;

  const collector = (): Client<typeof StudioService> => {
    if (options.collector === undefined) {
      throw createConnectError({
        code: Code.FailedPrecondition,
        message: "this pipeline has no collector to ask for traces: --studio-collector names one",
      });
    }
    return options.collector;
  };

  const failure = (error: unknown, { signal }: Pick<HandlerContext, "signal">): unknown => {
    if (!(error instanceof ConnectError) || signal.aborted) {
      return error;
    }
    if (ending.aborted) {
      return unavailable("the pipeline is shutting down");
    }
    if (passedOn.has(error.code)) {
      return createConnectError({ code: error.code, message: error.rawMessage });
    }
    options.onCollectorAway(error);
    return unavailable("the collector that this studio asks for traces does not answer");
  };

  async function* relay<T>(
    call: HandlerContext,
    watch: (studio: Client<typeof StudioService>, signal: AbortSignal) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const studio = collector();
    if (watchers >= maxWatchers) {
      const message = `${maxWatchers} watch traces or the map of this studio already`;
      throw createConnectError({ code: Code.ResourceExhausted, message });
    }
    watchers++;
    // A reader who leaves aborts the call at the collector too.
    const left = new AbortController();
    try {
      yield* watch(studio, AbortSignal.any([call.signal, ending, left.signal]));
    } catch (error) {
      throw failure(error, call);
    } finally {
      watchers--;
      left.abort();
    }
  }

  return (router) => {
    router.service(StudioService, {
      getStudio(_, call) {
        const { defaultApp, appIds } = directory;
        const mine = appIds.filter((appId) => callerOf(call).mayUse(appId));
        return {
          workerApps: [...mine.filter((id) => id === defaultApp), ...mine.filter((id) => id !== defaultApp)],
          hasTraces: options.collector !== undefined,
          traceUrlTemplate: options.traceUrlTemplate ?? "",
          traceBackend: options.traceBackend ?? "",
          hasJobs: options.hasJobs ?? false,
        };
      },
      async listTraces(request, call) {
        const studio = collector();
        try {
          return await studio.listTraces(request, {
            signal: call.signal,
            timeoutMs: Math.min(answerMs, call.timeoutMs() ?? answerMs),
          });
        } catch (error) {
          throw failure(error, call);
        }
      },
      watchTrace: (request, call) => relay(call, (studio, signal) => studio.watchTrace(request, { signal })),
      watchEntityMap: (request, call) => relay(call, (studio, signal) => studio.watchEntityMap(request, { signal })),
      watchRequests: (_, { signal }) => options.watchRequests(AbortSignal.any([signal, ending])),
    });
  };
}

/** A typed client of a collector's StudioService. */
export interface CollectorClient {
  readonly studio: Client<typeof StudioService>;
  /** Lets go of the connection, whatever runs over it. */
  close(): void;
}

/** No more than a trace can hold, by the collector's own limit. */
const maxMessageBytes = 16 * 1024 * 1024;

/** A stream may be idle for long: pings detect a lost peer. */
const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 };

/**
 * A client over one HTTP/2 connection, which is made when it is first needed, and anew after it was lost.
 *
 * @param url base URL of the collector, http or https.
 */
export function createCollectorClient(url: string): CollectorClient {
  const sessionManager = new Http2SessionManager(url, pings);
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "2",
    sessionManager,
    readMaxBytes: maxMessageBytes,
  });
  return { studio: createClient(StudioService, transport), close: () => sessionManager.abort() };
}
