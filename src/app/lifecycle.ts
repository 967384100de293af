import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";

/**
 * State of an app. It accepts calls only when `serving`.
 *
 * - `starting`: until the setup resolves.
 * - `interrupted`: while a dependency is unavailable, for example while the engine restarts.
 * - `draining`: from the start of the shutdown.
 */
export type AppState = "starting" | "serving" | "interrupted" | "draining";

/** Default grace period for running calls at shutdown, in milliseconds. */
export const defaultGraceMs = 25_000;

/** Holds the state of an app. */
export interface Lifecycle {
  readonly state: AppState;
  /** Changes the state. `draining` is final. */
  enter(state: AppState): void;
}

/** @param onChange called with the new state after each change. */
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
 * Rejects calls of the app's own services with UNAVAILABLE while it is `starting` or `draining`.
 *
 * Clients may retry on another replica. While the app is `interrupted`, it rejects calls itself, after it has validated them.
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

/** Timeout of a teardown, in milliseconds. */
export const teardownMs = 3_000;

/** Options of {@link endApp}. */
export interface EndAppOptions {
  readonly name: string;
  readonly teardown: (() => Promise<void>) | undefined;
  readonly telemetry: Pick<Telemetry, "shutdown">;
  readonly logger: Pick<Logger, "error">;
}

/**
 * Runs the teardown and exports the remaining spans, in parallel.
 *
 * Resolves within 3.5 s, the limit of the telemetry. Never rejects: it logs a failed teardown.
 */
export async function endApp({ name, teardown, telemetry, logger }: EndAppOptions): Promise<void> {
  const tearDown = async () => {
    try {
      await within(teardownMs, teardown?.());
    } catch (error) {
      logger.error({ err: error }, `${name}: the teardown failed`);
    }
  };
  await Promise.all([tearDown(), telemetry.shutdown()]);
}

/** @throws Error if the work takes longer than `timeoutMs`. */
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

/** Path of the liveness probe: always 200. */
export const livenessPath = "/healthz";

/** Path of the readiness probe: 200 while the app accepts calls, otherwise 503. */
export const readinessPath = "/readyz";

/**
 * Handles HTTP probes, `GET /healthz` and `GET /readyz`; returns whether it did.
 *
 * The body is the app's state as text. An unavailable dependency affects readiness only, because a restart of the app would not restore
 * it sooner.
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
