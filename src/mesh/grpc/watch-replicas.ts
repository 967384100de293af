import {
  type AddressListener,
  type AddressOptions,
  type AddressWatch,
  type GrpcAddress,
  watchAddresses,
} from "./grpc-addresses.js";
import { isRegistryTarget, type RegisteredReplicas, registeredAddress } from "./registered-replicas.js";

/** Options of {@link watchReplicas}. */
export interface ReplicaWatchOptions extends AddressOptions {
  /** Replicas besides those of the target. @default none */
  readonly registered?: RegisteredReplicas | undefined;
}

/**
 * Watch the addresses of a target and those of registered replicas, as one list. A replica that is in both stands there once.
 *
 * @throws Error if the target cannot be parsed.
 */
export function watchReplicas(options: ReplicaWatchOptions, listener: AddressListener): AddressWatch {
  const { target, registered } = options;
  /** Undefined until the resolver has answered. */
  let named: readonly GrpcAddress[] | undefined = isRegistryTarget(target) ? [] : undefined;
  let hasReported = false;
  let stopped = false;

  const report = (): void => {
    const found = new Map((named ?? []).map((address) => [address.name, address]));
    for (const address of (registered?.current ?? []).map(registeredAddress)) {
      // The target's own has the name for HTTP/2's authority and for TLS.
      found.set(address.name, found.get(address.name) ?? address);
    }
    // A name that is not resolved yet delays no call to a registered replica.
    if (!stopped && (named !== undefined || found.size > 0 || hasReported)) {
      hasReported = true;
      listener.onAddresses([...found.values()]);
    }
  };
  const forget = registered?.onChange(report);
  const names = isRegistryTarget(target)
    ? undefined
    : watchAddresses(options, {
        onAddresses(addresses) {
          named = addresses;
          report();
        },
        onFailure() {
          if (!stopped && (registered?.current ?? []).length === 0) {
            listener.onFailure();
          }
        },
      });
  report();
  return {
    refresh: () => names?.refresh(),
    stop() {
      stopped = true;
      forget?.();
      names?.stop();
    },
  };
}
