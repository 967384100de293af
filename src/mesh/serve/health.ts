import { EventEmitter, once } from "node:events";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../gen/grpc/health/v1/health_pb.js";
import { notFound } from "../errors/errors.js";

/** SERVING, NOT_SERVING, and what grpc.health.v1 has besides. */
export { ServingStatus };

/** Full name of the service that is served. */
export const healthServiceName = HealthService.typeName;

/** Which services are ready: the state behind grpc.health.v1. */
export interface Health {
  /** Sets the status of the server and of all services that are known. */
  setAll(status: ServingStatus): void;
  /** For a server that drains: everything is NOT_SERVING from now on, and each Watch says so and ends. */
  close(): void;
  /** Serves grpc.health.v1.Health: Check, List and Watch. */
  readonly routes: (router: ConnectRouter) => void;
}

/** Options of {@link createHealth}. */
export interface HealthOptions {
  /** Full names of the services to report on. Default: none, only the server as a whole. */
  readonly services?: readonly string[];
}

/** Creates the health state of one server: NOT_SERVING until it says otherwise. */
export function createHealth(options: HealthOptions = {}): Health {
  const services = ["", ...(options.services ?? [])];
  const statuses = new Map<string, ServingStatus>(services.map((service) => [service, ServingStatus.NOT_SERVING]));
  const changes = new EventEmitter().setMaxListeners(0);
  let closed = false;

  function setAll(status: ServingStatus): void {
    if (closed) {
      return;
    }
    for (const service of statuses.keys()) {
      statuses.set(service, status);
    }
    changes.emit("change");
  }

  async function* watch({ service }: { service: string }, context: HandlerContext) {
    let told: ServingStatus | undefined;
    while (!context.signal.aborted) {
      const status = statuses.get(service) ?? ServingStatus.SERVICE_UNKNOWN;
      if (status !== told) {
        told = status;
        yield { status };
        continue; // It may have changed while the client was slow to read.
      }
      if (closed) {
        return;
      }
      try {
        await once(changes, "change", { signal: context.signal });
      } catch {
        return; // The client left.
      }
    }
  }

  return {
    setAll,
    close() {
      setAll(ServingStatus.NOT_SERVING);
      closed = true;
      changes.emit("change");
    },
    routes(router) {
      router.service(HealthService, {
        check({ service }) {
          const status = statuses.get(service);
          if (status === undefined) {
            throw notFound("this server does not report on the service asked for");
          }
          return { status };
        },
        list: () => ({ statuses: Object.fromEntries([...statuses].map(([service, status]) => [service, { status }])) }),
        watch,
      });
    },
  };
}
