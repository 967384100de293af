import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { type AppConnectionsOptions, type AppStatus, createAppConnections } from "../mesh/directory/app-connections.js";
import { interceptTransport } from "../mesh/grpc/intercept-transport.js";

/** A worker app with its typed client. */
export interface WorkerClient {
  readonly appId: string;
  readonly client: Client<typeof TextToImageWorkerService>;
}

/** Options of {@link createWorkerClients}. */
export interface WorkerClientsOptions extends AppConnectionsOptions {
  /** Client interceptors of all calls, outermost first. */
  readonly interceptors: readonly Interceptor[];
}

/** Typed clients of the apps in a directory, which follow it when it changes. */
export interface WorkerClients {
  /**
   * The client of an app; an empty id means the directory's default.
   *
   * @throws ConnectError NOT_FOUND, naming the ids that are known.
   */
  find(appId: string): WorkerClient;
  /** How the apps are of which `mayTell` says that it may be told. */
  describe(mayTell: (appId: string) => boolean): Promise<readonly AppStatus[]>;
  close(): void;
}

/** Creates the clients of a directory's apps. */
export function createWorkerClients({ directory, connect, interceptors }: WorkerClientsOptions): WorkerClients {
  const connections = createAppConnections({ directory, connect });
  const clients = new Map<string, WorkerClient>();
  return {
    find(wanted) {
      const { appId } = directory.lookUp(wanted);
      const known = clients.get(appId);
      if (known !== undefined) {
        return known;
      }
      const transport = interceptTransport(connections.transportTo(appId), interceptors);
      const worker = { appId, client: createClient(TextToImageWorkerService, transport) };
      clients.set(appId, worker);
      return worker;
    },
    describe: (mayTell) => connections.describe(TextToImageWorkerService.typeName, mayTell),
    close: connections.close,
  };
}
