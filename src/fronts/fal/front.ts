import { randomBytes } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import type { Caller } from "../../mesh/access/callers.js";
import type { FrontCall, HttpFront } from "../../mesh/serve/http-front.js";
import { requestUrl } from "../../mesh/serve/node-request.js";
import { FalError, toFalError } from "./errors.js";
import { createJobPolls } from "./job-polls.js";
import { createLostAnswers } from "./lost-answers.js";
import { createPollPace, type PollPaceOptions } from "./poll-pace.js";
import { cancelRequest, jobId, type NamedRequest, respondResult, respondStatus, streamStatus } from "./requests.js";
import { respondError } from "./respond.js";
import { type FalRoute, isFalPath, type ResolvedRoute, readRoute } from "./route.js";
import { run, runStreaming } from "./run.js";
import { createStreamLimit } from "./stream-limit.js";
import { submit } from "./submit.js";

/** Options of {@link createFalFront}. */
export interface FalFrontOptions {
  /** Host, with its port, at which a bare `POST /{owner}/{app}` runs instead of submitting. @default none: `/fal/run` runs */
  readonly runHost?: string | undefined;
  /** Public base URL of the pipeline, for the URLs in answers. @default the origin of the request */
  readonly publicUrl?: string | undefined;
  /** Limit of polls. */
  readonly pollPace?: PollPaceOptions | undefined;
  /** Open status streams of one client. @default 1,000 */
  readonly maxStatusStreams?: number | undefined;
}

/** A poll, or another request about a submission: neither counts against the limits of the caller. */
type RequestRoute = Extract<FalRoute, { readonly id: string }>;
type StartRoute = Exclude<FalRoute, RequestRoute>;

/**
 * Create the front with the API of fal's clients: the queue, runs, streams, and the proxy route. It needs the pipeline's JobService.
 *
 * RPC paths and content types come first. Nothing is fetched, whatever `x-fal-target-url` says.
 */
export function createFalFront(options: FalFrontOptions = {}): HttpFront {
  const polls = createJobPolls();
  const pace = createPollPace(options.pollPace);
  const streams = createStreamLimit(options.maxStatusStreams);
  const lost = createLostAnswers();

  const baseOf = (url: URL, prefix: string) => `${options.publicUrl?.replace(/\/$/, "") ?? url.origin}${prefix}`;

  const start = async (
    call: FrontCall,
    slot: AdmittedCall,
    { kind, app }: StartRoute,
    resolved: Resolved & { readonly id: string },
  ) => {
    switch (kind) {
      case "submit":
        return submit(call, slot.caller, { app, query: resolved.query, base: resolved.base }, lost);
      case "run":
        return run(call, slot, app, resolved.id);
      case "stream":
        return runStreaming(call, slot, app, resolved.id);
    }
  };

  const enterStream = ({ countKey, reportRejection }: Caller) => {
    try {
      return streams.enter(countKey);
    } catch (error) {
      reportRejection?.("concurrency_limit");
      throw error;
    }
  };

  const follow = async (call: FrontCall, { kind, app, id }: RequestRoute, { query, base }: Resolved) => {
    const caller = call.admitPoll();
    await pace.turn(caller.countKey).catch((error: unknown) => {
      caller.reportRejection?.("rate_limit");
      throw error;
    });
    const named: NamedRequest = { app, id, base, withLogs: /^(1|true)$/i.test(query.get("logs") ?? "") };
    switch (kind) {
      case "status":
        return respondStatus(call, caller, named, polls);
      case "status-stream": {
        const leave = enterStream(caller);
        return streamStatus(call, caller, named, polls).finally(leave);
      }
      case "result":
        return respondResult(call, caller, named);
      case "cancel":
        return cancelRequest(call, caller, named, polls);
    }
  };

  return {
    name: "fal",
    serves: isFalPath,
    async handle(received) {
      let reachesService = false;
      const call: FrontCall = {
        ...received,
        transport(caller) {
          reachesService = true;
          return received.transport(caller);
        },
      };
      let id: string | undefined;
      let slot: AdmittedCall | undefined;
      let isPoll = false;
      try {
        const url = new URL(requestUrl(call.request, call.request.url ?? ""));
        const asked = { method: call.request.method ?? "", path: call.path };
        const { route, ...resolved } = readRoute(asked, url, call.header, options);
        const place = { ...resolved, base: baseOf(url, resolved.prefix) };
        if ("id" in route) {
          id = route.id;
          isPoll = true;
          await follow(call, route, place);
        } else {
          id = newId();
          slot = call.admit();
          await start(call, slot, route, { ...place, id });
        }
        return undefined;
      } catch (thrown) {
        if (call.response.headersSent) {
          call.response.destroy();
          return undefined;
        }
        respondError(call, id !== undefined && jobId.test(id) ? id : newId(), toFalError(thrown, call.header));
        // Polls that are rejected are as many as those that are not.
        return reachesService || (isPoll && !isUnauthenticated(thrown)) ? undefined : codeOf(thrown);
      } finally {
        slot?.release();
      }
    },
  };
}

interface Resolved extends Omit<ResolvedRoute, "route"> {
  readonly base: string;
}

/** Id of a request that is no job, of the same form. */
function newId(): string {
  return randomBytes(16).toString("hex");
}

function isUnauthenticated(thrown: unknown): boolean {
  return thrown instanceof ConnectError && thrown.code === Code.Unauthenticated;
}

const codes: ReadonlyMap<number, Code> = new Map([
  [404, Code.NotFound],
  [499, Code.Canceled],
  [500, Code.Internal],
  [504, Code.DeadlineExceeded],
]);

/** Code for log and metrics of a request that was rejected. */
function codeOf(thrown: unknown): Code {
  return thrown instanceof FalError
    ? (codes.get(thrown.status) ?? Code.InvalidArgument)
    : ConnectError.from(thrown).code;
}
