import { appIdPattern } from "../app-id.js";
import { invalidArgument, notFound } from "../errors/errors.js";
import { type Policies, type PoliciesInput, readPolicies } from "../grpc/policies.js";
import type { AppSecurity } from "./app-security.js";

/** Where one app is, and how it is called. */
export interface AppEntry {
  /**
   * gRPC target of all its workers: `host:port`, `dns:///host:port`, `ipv4:1.2.3.4:5,…`, `ipv6:[::1]:5`, `unix:/path`. Each address is
   * a worker. Not `xds:///name`: that needs a client of a control plane, which is not here.
   */
  readonly target: string;
  /** @default all defaults */
  readonly policies?: PoliciesInput | undefined;
  /** How it is connected to. @default as the connections that have nothing of their own */
  readonly security?: AppSecurity | undefined;
}

/** One app, found. */
export interface AppDirectoryEntry {
  /** App id, such as `local/text-to-image-worker`. */
  readonly appId: string;
  readonly target: string;
  readonly policies: Policies;
  readonly security?: AppSecurity;
}

/** Maps app ids to gRPC targets. The only way from a request to an address, so no caller can choose one. */
export interface AppDirectory {
  /** The ids of all apps, sorted. */
  readonly appIds: readonly string[];
  /** Id of the app that the empty id means. */
  readonly defaultApp: string | undefined;
  /**
   * Finds an app; the empty id means the default app. Throws a ConnectError: NOT_FOUND, naming the ids known, for an id that is not in
   * the directory, and INVALID_ARGUMENT for an empty id where no default is set.
   */
  lookUp(appId: string): AppDirectoryEntry;
  /** Calls back when apps have come, gone or changed. One that is made of fixed options never does. */
  onChange(listener: () => void): void;
}

/** Options of {@link createAppDirectory}. */
export interface AppDirectoryOptions {
  /** Apps by id (`owner/name`). At least one. */
  readonly apps: Readonly<Record<string, AppEntry>>;
  /** Id of the app that the empty id means. Default: none. */
  readonly defaultApp?: string;
}

const hostAndPort = String.raw`(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):\d{1,5}`;
const targetPattern = new RegExp(
  `^(${hostAndPort}|dns:(//[^/]*/)?${hostAndPort}|ipv[46]:${hostAndPort}(,${hostAndPort})*|unix:.+)$`,
);

/**
 * Creates a directory from configuration. Throws an Error that names the entry and its value where an id, a target, a policy or the default
 * is wrong: a mistake is seen at start-up and not with the first request.
 */
export function createAppDirectory(options: AppDirectoryOptions): AppDirectory {
  const apps = new Map<string, AppDirectoryEntry>();
  for (const [appId, { target, policies, security }] of Object.entries(options.apps)) {
    if (!appIdPattern.test(appId)) {
      throw new Error(`app id "${appId}" is not of the form owner/name`);
    }
    if (/^xds:/i.test(target)) {
      throw new Error(`target "${target}" of app "${appId}": xds needs a client of a control plane, which is not here`);
    }
    if (!isTarget(target)) {
      throw new Error(`target "${target}" of app "${appId}" is not a gRPC target such as dns:///host:50052`);
    }
    apps.set(appId, { appId, target, policies: policiesOf(appId, policies), ...(security && { security }) });
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
    lookUp(appId) {
      const wanted = appId === "" ? defaultApp : appId;
      if (wanted === undefined) {
        throw invalidArgument(`no default app is set; the apps are ${listed(appIds)}`);
      }
      const found = apps.get(wanted);
      // The id asked for is not quoted: it is the caller's text.
      if (found === undefined) {
        throw notFound(`no such app; the apps are ${listed(appIds)}`);
      }
      return found;
    },
  };
}

/** Ids that an error lists; the others are counted. */
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
