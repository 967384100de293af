import { readPolicies } from "../grpc/policies.js";
import { type RegisteredReplicas, registryTarget } from "../grpc/registered-replicas.js";
import { type AppDirectory, type AppDirectoryEntry, lookUpApp } from "./app-directory.js";

/** Apps whose workers register themselves. */
export interface RegisteredApps {
  /** Ids of the apps that have registered workers, or had some a while ago. */
  readonly appIds: readonly string[];
  /** Registered replicas of an app: the same object at each call, also while there are none. */
  replicasOf(appId: string): RegisteredReplicas;
  /** Calls back when an app was added or removed. */
  onChange(listener: () => void): void;
}

/** Options of {@link withRegisteredApps}. */
export interface RegisteredAppsOptions {
  /** Configured apps. */
  readonly configured: AppDirectory;
  readonly registered: RegisteredApps;
}

/**
 * Create a directory of configured and registered apps.
 *
 * An app that is in both has the replicas of both, with the policies and the security of its configuration. An app that is only registered
 * has the defaults.
 */
export function withRegisteredApps({ configured, registered }: RegisteredAppsOptions): AppDirectory {
  const policies = readPolicies();
  let known: ReadonlySet<string> = new Set();
  let appIds: readonly string[] = [];
  const refresh = () => {
    known = new Set([...configured.appIds, ...registered.appIds]);
    appIds = [...known].sort();
  };
  refresh();
  // The first listeners: those of `onChange` below find the new apps.
  configured.onChange(refresh);
  registered.onChange(refresh);

  const find = (appId: string): AppDirectoryEntry | undefined => {
    if (!known.has(appId)) {
      return undefined;
    }
    // The list is always there: with the first registered replica, the app keeps its connection and its running calls.
    const replicas = registered.replicasOf(appId);
    return configured.appIds.includes(appId)
      ? { ...configured.lookUp(appId), registered: replicas }
      : { appId, target: registryTarget(appId), policies, registered: replicas };
  };
  return {
    get appIds() {
      return appIds;
    },
    get defaultApp() {
      return configured.defaultApp;
    },
    lookUp: (appId) => lookUpApp(appId, { appIds, defaultApp: configured.defaultApp, find }),
    onChange(listener) {
      configured.onChange(listener);
      registered.onChange(listener);
    },
  };
}
