import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

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

const refusals: Partial<Record<AppState, string>> = {
  starting: "is starting and not ready yet",
  draining: "is shutting down",
};

/**
 * Refuses calls of the app's own services with UNAVAILABLE, which callers may retry elsewhere, before the app has ever served and from its
 * drain on. While it is `interrupted` the app itself refuses what it cannot do, after it has refused what nobody could.
 */
export function createReadinessInterceptor(
  appName: string,
  services: readonly DescService[],
  lifecycle: Lifecycle,
): Interceptor {
  const own = new Set(services.map((service) => service.typeName));
  return (next) => (request) => {
    const reason = refusals[lifecycle.state];
    if (reason !== undefined && own.has(request.service.typeName)) {
      throw new ConnectError(`${appName} ${reason}`, Code.Unavailable);
    }
    return next(request);
  };
}
