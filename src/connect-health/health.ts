import { EventEmitter, once } from "node:events";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../gen/grpc/health/v1/health_pb.js";

/** Statuses of grpc.health.v1: UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN. */
export { ServingStatus };

/** Full name of the health service, `grpc.health.v1.Health`. */
export const healthServiceName: string = HealthService.typeName;

/** The statuses of one server's services, served as grpc.health.v1. */
export interface Health {
  /**
   * Sets the status of one service, or of the server as a whole with `""`.
   *
   * @throws RangeError for a service that {@link HealthOptions.services} does not have.
   */
  set(service: string, status: ServingStatus): void;
  /** Sets the status of the server and of all its services. */
  setAll(status: ServingStatus): void;
  /** Sets everything to NOT_SERVING for good, and ends each Watch after it has said so. Call it when the server begins to drain. */
  close(): void;
  /** The service itself, for clients and for reflection. */
  readonly service: typeof HealthService;
  /** Registers grpc.health.v1.Health: Check, List and Watch. */
  readonly routes: (router: ConnectRouter) => void;
}

/** Options of {@link createHealth}. */
export interface HealthOptions {
  /** Full names of the services to report on. Default: none, only the server as a whole. */
  readonly services?: readonly string[];
}

/** Creates the health state of one server, NOT_SERVING at first. */
export function createHealth(options: HealthOptions = {}): Health {
  const services = ["", ...(options.services ?? [])];
  const statuses = new Map<string, ServingStatus>(services.map((service) => [service, ServingStatus.NOT_SERVING]));
  const changes = new EventEmitter().setMaxListeners(0);
  let closed = false;

  function setEach(names: Iterable<string>, status: ServingStatus): void {
    if (closed) {
      return;
    }
    for (const service of names) {
      statuses.set(service, status);
    }
    changes.emit("change");
  }

  async function* watch({ service }: { service: string }, context: HandlerContext) {
    let sent: ServingStatus | undefined;
    while (!context.signal.aborted) {
      const status = statuses.get(service) ?? ServingStatus.SERVICE_UNKNOWN;
      if (status !== sent) {
        sent = status;
        yield { status };
        continue; // It may have changed while the client was slow to read.
      }
      if (closed) {
        return;
      }
      try {
        await once(changes, "change", { signal: context.signal });
      } catch {
        return; // The client disconnected.
      }
    }
  }

  return {
    service: HealthService,
    set(service, status) {
      if (!statuses.has(service)) {
        throw new RangeError(`health does not report on ${service}: name it in the option services`);
      }
      setEach([service], status);
    },
    setAll: (status) => setEach([...statuses.keys()], status),
    close() {
      setEach([...statuses.keys()], ServingStatus.NOT_SERVING);
      closed = true;
      changes.emit("change");
    },
    routes(router) {
      router.service(HealthService, {
        check({ service }) {
          const status = statuses.get(service);
          if (status === undefined) {
            throw new ConnectError("this server does not report on the service asked for", Code.NotFound);
          }
          return { status };
        },
        list: () => ({ statuses: Object.fromEntries([...statuses].map(([service, status]) => [service, { status }])) }),
        watch,
      });
    },
  };
}
