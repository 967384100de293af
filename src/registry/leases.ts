import { Code } from "@connectrpc/connect";
import type { RegisteredApps } from "../mesh/directory/registered-apps.js";
import { createConnectError, retryInfo } from "../mesh/errors/errors.js";
import { type RegisteredReplica, type RegisteredReplicas, registeredName } from "../mesh/grpc/registered-replicas.js";

/** A registered replica of an app. */
export interface Lease extends RegisteredReplica {
  readonly appId: string;
}

/** Who registers a replica. */
export interface LeaseHolder {
  /** Key for counting the leases of a caller. */
  readonly countKey: string;
  /** Called once if the lease ends because it was not renewed. */
  readonly onExpired: () => void;
}

/** A lease that a stream of this process keeps. */
export interface HeldLease {
  /** Gives the lease its full time again. */
  renew(version: string): void;
  /** Ends the lease now. */
  end(): void;
  /** The stream broke: the lease ends when its time is over, unless the replica registers again. */
  abandon(): void;
}

/** A change of a lease of this process. `expired`: it was not renewed in time. */
export interface LeaseChange {
  readonly kind: "registered" | "renewed" | "ended" | "expired";
  readonly lease: Lease;
}

/** Options of {@link createLeases}. */
export interface LeasesOptions {
  /** Time of a lease without a renewal, in milliseconds. @default 30,000 */
  readonly leaseMs?: number | undefined;
  /** Time that an app stays known after its last lease, in milliseconds. @default an hour */
  readonly knownMs?: number | undefined;
  /** Maximum leases, those of other pipelines included. @default 10,000 */
  readonly maxLeases?: number | undefined;
  /** Maximum leases of one caller at this process, and of apps without a lease that stay known because of it. @default 1,000 */
  readonly maxPerCaller?: number | undefined;
}

/** Registered replicas: those of this process, and those that other pipelines share. */
export interface Leases extends RegisteredApps {
  readonly leaseMs: number;
  /** Leases of this process. */
  readonly own: readonly Lease[];
  /**
   * Registers a replica, or takes over the lease of a broken stream.
   *
   * @throws ConnectError ALREADY_EXISTS while another stream holds the lease; RESOURCE_EXHAUSTED at a limit.
   */
  register(lease: Lease, holder: LeaseHolder): HeldLease;
  /** Replaces the leases that other pipelines share, and adds apps that were known there. */
  setShared(leases: readonly Lease[], appIds?: readonly string[]): void;
  /** Calls back after each change of a lease of this process. */
  onLease(listener: (change: LeaseChange) => void): void;
  /** Stops the clock of the leases. */
  close(): void;
}

export const defaultLeaseMs = 30_000;
export const defaultMaxLeases = 10_000;
export const defaultMaxLeasesPerCaller = 1_000;
const defaultKnownMs = 3_600_000;

/**
 * A lease's time is counted in steps of one timer. A process that stood still for a minute runs one step before it reads the renewals that
 * have arrived meanwhile; clocks would end all leases at once.
 */
const steps = 10;

/** Retry delay at a limit, in milliseconds. */
const limitRetryMs = 10_000;

interface OwnLease {
  lease: Lease;
  holder: LeaseHolder | undefined;
  readonly countKey: string;
  stepsLeft: number;
}

interface App {
  readonly own: Map<string, OwnLease>;
  shared: Map<string, Lease>;
  readonly listeners: Set<() => void>;
  readonly replicas: RegisteredReplicas;
  current: readonly Lease[];
  /** Above 0: the app is known. It falls while the app has no lease. */
  stepsLeft: number;
  /** Key of the caller that made the app known. Undefined for one that was configured or shared first. */
  countKey: string | undefined;
  /** Whether a connection may hold `replicas` although the app is not known, because it is configured. */
  isPinned: boolean;
}

/** Create an empty table of leases. */
export function createLeases(options: LeasesOptions = {}): Leases {
  const { leaseMs = defaultLeaseMs, knownMs = defaultKnownMs } = options;
  const { maxLeases = defaultMaxLeases, maxPerCaller = defaultMaxLeasesPerCaller } = options;
  const apps = new Map<string, App>();
  const listeners = new Set<() => void>();
  const leaseListeners = new Set<(change: LeaseChange) => void>();
  const perCaller = new Map<string, number>();
  const knownSteps = Math.max(1, Math.ceil((knownMs / leaseMs) * steps));
  let appIds: readonly string[] = [];

  const report = (change: LeaseChange): void => {
    for (const notify of leaseListeners) {
      notify(change);
    }
  };

  const changedApps = (): void => {
    appIds = [...apps].filter(([, { stepsLeft }]) => stepsLeft > 0).map(([appId]) => appId);
    for (const notify of listeners) {
      notify();
    }
  };

  const appOf = (appId: string): App => {
    const known = apps.get(appId);
    if (known !== undefined) {
      return known;
    }
    const app: App = {
      own: new Map(),
      shared: new Map(),
      listeners: new Set(),
      current: [],
      stepsLeft: 0,
      countKey: undefined,
      isPinned: false,
      replicas: {
        get current() {
          return app.current;
        },
        onChange(listener) {
          app.listeners.add(listener);
          return () => void app.listeners.delete(listener);
        },
      },
    };
    apps.set(appId, app);
    return app;
  };

  /** Recomputes an app's list and reports a change. */
  const refresh = (app: App): void => {
    const wasKnown = app.stepsLeft > 0;
    const found = new Map(app.shared);
    for (const [name, { lease }] of app.own) {
      found.set(name, lease);
    }
    const next = [...found.values()];
    const isSame =
      next.length === app.current.length &&
      next.every((lease, at) => {
        const before = app.current[at];
        return (
          before !== undefined && registeredName(before) === registeredName(lease) && before.version === lease.version
        );
      });
    if (isSame) {
      return;
    }
    app.current = next;
    if (next.length > 0) {
      app.stepsLeft = knownSteps;
      if (!wasKnown) {
        changedApps();
      }
    }
    for (const notify of app.listeners) {
      notify();
    }
  };

  const count = (): number => {
    let total = 0;
    for (const { current } of apps.values()) {
      total += current.length;
    }
    return total;
  };

  const remove = (app: App, name: string, kind: "ended" | "expired"): void => {
    const own = app.own.get(name);
    if (own === undefined) {
      return;
    }
    app.own.delete(name);
    const left = (perCaller.get(own.countKey) ?? 1) - 1;
    if (left > 0) {
      perCaller.set(own.countKey, left);
    } else {
      perCaller.delete(own.countKey);
    }
    refresh(app);
    report({ kind, lease: own.lease });
    if (kind === "expired") {
      own.holder?.onExpired();
    }
  };

  const step = (): void => {
    let hasForgotten = false;
    for (const [appId, app] of apps) {
      for (const [name, own] of app.own) {
        own.stepsLeft--;
        if (own.stepsLeft <= 0) {
          remove(app, name, "expired");
        }
      }
      if (app.current.length === 0 && app.stepsLeft > 0) {
        app.stepsLeft--;
        hasForgotten ||= app.stepsLeft === 0;
      }
      if (app.stepsLeft === 0 && !app.isPinned) {
        apps.delete(appId);
      }
    }
    if (hasForgotten) {
      changedApps();
    }
  };
  const timer = setInterval(step, leaseMs / steps).unref();

  /** @throws ConnectError */
  const checkLimits = (appId: string, countKey: string): void => {
    const full = (limit: string) =>
      createConnectError({
        code: Code.ResourceExhausted,
        message: `the registry has ${limit}`,
        details: [retryInfo(limitRetryMs)],
      });
    if (count() >= maxLeases) {
      throw full(`${maxLeases} leases, which is its limit`);
    }
    if ((perCaller.get(countKey) ?? 0) >= maxPerCaller) {
      throw full(`${maxPerCaller} leases of this caller, which is its limit`);
    }
    // Apps without a lease count for as long as they are known.
    if (!apps.has(appId) && apps.size >= maxLeases) {
      throw full(`${maxLeases} apps, which is its limit`);
    }
  };

  /** Forgets the app that has been without a lease for longest: a caller with ever new apps must not fill the table for the others. */
  const forgetOldest = (countKey: string, appId: string): void => {
    const idle = [...apps].filter(([, app]) => app.countKey === countKey && app.current.length === 0 && !app.isPinned);
    if (idle.length >= maxPerCaller && !apps.has(appId)) {
      const [[oldest] = [""]] = idle.sort(([, one], [, other]) => one.stepsLeft - other.stepsLeft);
      apps.delete(oldest);
    }
  };

  return {
    leaseMs,
    get appIds() {
      return appIds;
    },
    get own() {
      return [...apps.values()].flatMap(({ own }) => [...own.values()].map(({ lease }) => lease));
    },
    replicasOf(appId) {
      const app = appOf(appId);
      app.isPinned ||= app.stepsLeft === 0;
      return app.replicas;
    },
    onChange: (listener) => void listeners.add(listener),
    onLease: (listener) => void leaseListeners.add(listener),
    register(lease, holder) {
      const name = registeredName(lease);
      const before = apps.get(lease.appId)?.own.get(name);
      if (before?.holder !== undefined) {
        throw createConnectError({
          code: Code.AlreadyExists,
          message:
            `${name} is registered for this app by another connection; if two workers share an address behind NAT, ` +
            "give each a port of its own",
        });
      }
      if (before === undefined) {
        forgetOldest(holder.countKey, lease.appId);
        checkLimits(lease.appId, holder.countKey);
        perCaller.set(holder.countKey, (perCaller.get(holder.countKey) ?? 0) + 1);
      }
      const app = appOf(lease.appId);
      app.countKey = app.stepsLeft === 0 ? holder.countKey : app.countKey;
      const own: OwnLease = { lease, holder, countKey: before?.countKey ?? holder.countKey, stepsLeft: steps };
      app.own.set(name, own);
      refresh(app);
      report({ kind: "registered", lease });
      const isHeld = () => app.own.get(name) === own && own.holder === holder;
      return {
        renew(version) {
          if (isHeld()) {
            own.stepsLeft = steps;
            own.lease = { ...own.lease, version };
            refresh(app);
            report({ kind: "renewed", lease: own.lease });
          }
        },
        end() {
          if (isHeld()) {
            own.holder = undefined;
            remove(app, name, "ended");
          }
        },
        abandon() {
          if (isHeld()) {
            own.holder = undefined;
          }
        },
      };
    },
    setShared(leases, knownApps = []) {
      const byApp = new Map<string, Map<string, Lease>>(knownApps.map((appId) => [appId, new Map()]));
      for (const lease of leases) {
        const ofApp = byApp.get(lease.appId) ?? new Map<string, Lease>();
        byApp.set(lease.appId, ofApp.set(registeredName(lease), lease));
      }
      let hasNew = false;
      for (const [appId, shared] of byApp) {
        const app = appOf(appId);
        hasNew ||= app.stepsLeft === 0;
        app.stepsLeft = knownSteps;
        app.shared = shared;
        refresh(app);
      }
      for (const [appId, app] of apps) {
        if (app.shared.size > 0 && !byApp.has(appId)) {
          app.shared = new Map();
          refresh(app);
        }
      }
      if (hasNew) {
        changedApps();
      }
    },
    close: () => clearInterval(timer),
  };
}
