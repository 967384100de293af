import { appIdPattern } from "../app-id.js";
import { invalidArgument, notFound } from "../errors/errors.js";
import { type Policies, type PoliciesInput, readPolicies } from "../grpc/policies.js";
import { type RegisteredReplicas, registryTarget } from "../grpc/registered-replicas.js";
import type { AppSecurity } from "./app-security.js";

/** Configuration of one app. */
export interface AppEntry {
  /**
   * gRPC target of its workers: `host:port`, `dns:///host:port`, `ipv4:1.2.3.4:5,…`, `ipv6:[::1]:5`, `unix:/path`. Each address is
   * a worker. `xds:///name` is not supported: it needs a control-plane client. @default none but those that register themselves
   */
  readonly target?: string | undefined;
  /** @default the default policies */
  readonly policies?: PoliciesInput | undefined;
  /** @default the common security */
  readonly security?: AppSecurity | undefined;
}

/** Resolved entry of an app. */
export interface AppDirectoryEntry {
  /** App id, such as `local/text-to-image-worker`. */
  readonly appId: string;
  /** gRPC target, or `registry:<app id>` for an app all of whose workers register themselves. */
  readonly target: string;
  readonly policies: Policies;
  readonly security?: AppSecurity | undefined;
  /** Workers that have registered themselves, besides those of the target. @default none */
  readonly registered?: RegisteredReplicas | undefined;
}

/** Map of app ids to gRPC targets. Callers can select an app id, but no address. */
export interface AppDirectory {
  /** The ids of all apps, sorted. */
  readonly appIds: readonly string[];
  /** App id that the empty id selects. */
  readonly defaultApp: string | undefined;
  /**
   * Looks up an app; the empty id selects the default app.
   *
   * @throws ConnectError NOT_FOUND for an unknown id, listing the known ones; INVALID_ARGUMENT for the empty id without a default app.
   */
  lookUp(appId: string): AppDirectoryEntry;
  /** Calls back when apps were added, removed or changed. Never for a directory with fixed options. */
  onChange(listener: () => void): void;
}

/** Options of {@link createAppDirectory}. */
export interface AppDirectoryOptions {
  /** Apps by id (`owner/name`). At least one. */
  readonly apps: Readonly<Record<string, AppEntry>>;
  /** App id that the empty id selects. Default: none. */
  readonly defaultApp?: string | undefined;
}

const hostAndPort = String.raw`(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):\d{1,5}`;
const targetPattern = new RegExp(
  `^(${hostAndPort}|dns:(//[^/]*/)?${hostAndPort}|ipv[46]:${hostAndPort}(,${hostAndPort})*|unix:.+)$`,
);

/**
 * Create a directory from configuration.
 *
 * @throws Error that names the entry and its value if an id, a target, a policy or the default app is invalid.
 */
export function createAppDirectory(options: AppDirectoryOptions): AppDirectory {
  const apps = new Map<string, AppDirectoryEntry>();
  for (const [appId, { target, policies, security }] of Object.entries(options.apps)) {
    if (!appIdPattern.test(appId)) {
      throw new Error(`app id "${appId}" is not of the form owner/name`);
    }
    if (target === undefined) {
      apps.set(appId, { appId, target: registryTarget(appId), policies: policiesOf(appId, policies), security });
      continue;
    }
    if (/^xds:/i.test(target)) {
      throw new Error(
        `target "${target}" of app "${appId}": xds is not supported (it needs a control-plane client); use dns:///host:port`,
      );
    }
    if (!isTarget(target)) {
      throw new Error(`target "${target}" of app "${appId}" is not a gRPC target such as dns:///host:50052`);
    }
    apps.set(appId, { appId, target, policies: policiesOf(appId, policies), security });
  }
  const appIds = [...apps.keys()].sort();
  if (appIds.length === 0) {
    throw new Error("an app directory needs at least one app");
  }
  const { defaultApp } = options;
  if (defaultApp !== undefined && !apps.has(defaultApp)) {
    throw new Error(`default app "${defaultApp}" is not in the directory, which has ${appIds.join(", ")}`);
  }

  return {
    appIds,
    defaultApp,
    onChange() {},
    lookUp: (appId) => lookUpApp(appId, { appIds, defaultApp, find: (wanted) => apps.get(wanted) }),
  };
}

/**
 * Look up an app, as {@link AppDirectory} does.
 *
 * @throws ConnectError
 */
export function lookUpApp(
  appId: string,
  {
    appIds,
    defaultApp,
    find,
  }: Pick<AppDirectory, "appIds" | "defaultApp"> & {
    readonly find: (appId: string) => AppDirectoryEntry | undefined;
  },
): AppDirectoryEntry {
  const wanted = appId === "" ? defaultApp : appId;
  if (wanted === undefined) {
    throw invalidArgument(`no default app is set; the apps are ${listed(appIds)}`);
  }
  const found = find(wanted);
  // The requested id is not quoted: it is caller input.
  if (found === undefined) {
    throw notFound(`no such app; the apps are ${listed(appIds)}`);
  }
  return found;
}

/** Maximum ids listed in an error; the others are counted. */
const maxListed = 10;

function listed(appIds: readonly string[]): string {
  const more = appIds.length - maxListed;
  return appIds.slice(0, maxListed).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function policiesOf(appId: string, policies: PoliciesInput | undefined): Policies {
  try {
    return readPolicies(policies);
  } catch (error) {
    throw new Error(`app "${appId}": ${error instanceof Error ? error.message : error}`);
  }
}

function isTarget(target: string): boolean {
  if (!targetPattern.test(target)) {
    return false;
  }
  return [...target.matchAll(/:(\d{1,5})(?=,|$)/g)].every(([, port]) => Number(port) >= 1 && Number(port) <= 65_535);
}
