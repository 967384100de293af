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

/** Health of one server's services, served as grpc.health.v1. */
export interface Health {
  /**
   * Sets the status of one service; `""` is the server itself.
   *
   * @throws RangeError for a service that is not in {@link HealthOptions.services}.
   */
  set(service: string, status: ServingStatus): void;
  /** Sets the status of the server and of all its services. */
  setAll(status: ServingStatus): void;
  /** Sets all statuses to NOT_SERVING permanently, and ends each Watch after it has sent them. Call it when the server starts to drain. */
  close(): void;
  /** Descriptor of the service, for clients and reflection. */
  readonly service: typeof HealthService;
  /** Registers grpc.health.v1.Health: Check, List and Watch. */
  readonly routes: (router: ConnectRouter) => void;
}

/** Options of {@link createHealth}. */
export interface HealthOptions {
  /** Full names of the reported services. @default none, only the server itself */
  readonly services?: readonly string[];
}

/** Creates the health of one server, initially NOT_SERVING. */
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
        continue; // The status may have changed while the client was reading.
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
            throw new ConnectError("this server does not report the health of the requested service", Code.NotFound);
          }
          return { status };
        },
        list: () => ({ statuses: Object.fromEntries([...statuses].map(([service, status]) => [service, { status }])) }),
        watch,
      });
    },
  };
}
