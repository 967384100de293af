import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";

/**
 * Where an app stands. It serves if and only if it is `serving`:
 * `starting` until its setup is done, `interrupted` while what it needs is away (its engine restarts, say),
 * `draining` from the first word of its end on.
 */
export type AppState = "starting" | "serving" | "interrupted" | "draining";

/** Milliseconds that running calls have to finish when an app ends, where nothing else is said. */
export const defaultGraceMs = 25_000;

/** The one place that knows an app's state. */
export interface Lifecycle {
  readonly state: AppState;
  /** Moves on. From `draining` nothing leads back. */
  enter(state: AppState): void;
}

/** @param onChange called after each change, with the new state. */
export function createLifecycle(onChange: (state: AppState) => void): Lifecycle {
  let state: AppState = "starting";
  return {
    get state() {
      return state;
    },
    enter(next) {
      if (state !== "draining" && state !== next) {
        state = next;
        onChange(next);
      }
    },
  };
}

const rejections: Partial<Record<AppState, string>> = {
  starting: "is starting and not ready yet",
  draining: "is shutting down",
};

/**
 * Rejects calls of the app's own services with UNAVAILABLE, which callers may retry elsewhere, before the app has ever served and from its
 * drain on. While it is `interrupted` the app itself rejects what it cannot do, after it has rejected what nobody could.
 */
export function createReadinessInterceptor(
  appName: string,
  services: readonly DescService[],
  lifecycle: Lifecycle,
): Interceptor {
  const own = new Set(services.map((service) => service.typeName));
  return (next) => (request) => {
    const reason = rejections[lifecycle.state];
    if (reason !== undefined && own.has(request.service.typeName)) {
      throw new ConnectError(`${appName} ${reason}`, Code.Unavailable);
    }
    return next(request);
  };
}

/** Milliseconds that a teardown may take before the app ends without it. */
export const teardownMs = 3_000;

/** What is left to do once the last call has ended. */
export interface EndAppOptions {
  readonly name: string;
  readonly teardown: (() => Promise<void>) | undefined;
  readonly telemetry: Pick<Telemetry, "shutdown">;
  readonly logger: Pick<Logger, "error">;
}

/**
 * Frees what the app took while its last spans leave. Never rejects, and resolves within 3.5 s (the telemetry's own limit) whatever hangs:
 * at the end of a process nobody could do anything about it, so it goes to the log.
 */
export async function endApp({ name, teardown, telemetry, logger }: EndAppOptions): Promise<void> {
  const freed = async () => {
    try {
      await within(teardownMs, teardown?.());
    } catch (error) {
      logger.error({ err: error }, `${name} could not free all that it took`);
    }
  };
  await Promise.all([freed(), telemetry.shutdown()]);
}

/** @throws Error when the work takes longer. */
async function within(timeoutMs: number, work: Promise<void> | undefined): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the teardown took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Path that answers 200 for as long as the process can answer at all, whatever its state. */
export const livenessPath = "/healthz";

/** Path that answers 200 while the app takes calls, and 503 while it does not. */
export const readinessPath = "/readyz";

/**
 * Answers the probes of those that cannot ask grpc.health.v1, with the app's state as text, and says whether it did: `GET /healthz` and
 * `GET /readyz`. What the app needs being away is a matter of readiness: starting it again would not bring that back sooner.
 */
export function createProbeRoute(stateOf: () => AppState): (request: NodeRequest, response: NodeResponse) => boolean {
  return (request, response) => {
    const path = request.url?.split("?", 1)[0];
    if (path !== livenessPath && path !== readinessPath) {
      return false;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      respondPlain(response, 405, "probes require GET", { allow: "GET, HEAD" });
      return true;
    }
    const state = stateOf();
    const ok = path === livenessPath || state === "serving";
    respondPlain(response, ok ? 200 : 503, state, { "cache-control": "no-store" });
    return true;
  };
}
