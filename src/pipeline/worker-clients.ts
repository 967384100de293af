import { type Client, createClient } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import type { AppDirectory, AppDirectoryEntry } from "../mesh/app-directory.js";
import type { Connection } from "../mesh/connection.js";

/** A worker app with its typed client. */
export interface WorkerClient {
  readonly appId: string;
  readonly client: Client<typeof TextToImageWorkerService>;
}

/** Typed clients of the apps in a directory: one connection an app, made when it is first asked for. */
export interface WorkerClients {
  /**
   * The client of an app; an empty id means the directory's default.
   *
   * @throws ConnectError NOT_FOUND, naming the ids that are known.
   */
  find(appId: string): WorkerClient;
  close(): void;
}

/** @param connect makes the connection to an entry's target. */
export function createWorkerClients(
  directory: AppDirectory,
  connect: (entry: AppDirectoryEntry) => Connection,
): WorkerClients {
  const connections = new Map<string, { readonly connection: Connection; readonly worker: WorkerClient }>();
  return {
    find(appId) {
      const entry = directory.lookUp(appId);
      const known = connections.get(entry.appId);
      if (known !== undefined) {
        return known.worker;
      }
      const connection = connect(entry);
      const worker = { appId: entry.appId, client: createClient(TextToImageWorkerService, connection.transport) };
      connections.set(entry.appId, { connection, worker });
      return worker;
    },
    close() {
      for (const { connection } of connections.values()) {
        connection.close();
      }
      connections.clear();
    },
  };
}
