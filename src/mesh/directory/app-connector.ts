import { type ConnectAppOptions, connectApp } from "../balance/balanced-connection.js";
import type { Connection } from "../grpc/connection.js";
import type { ConnectionSecurity } from "../grpc/connection-security.js";
import type { AppDirectoryEntry } from "./app-directory.js";
import { type OpenAppSecurity, openAppSecurity } from "./app-security.js";

/** Options of {@link createAppConnector}. */
export interface AppConnectorOptions extends Pick<ConnectAppOptions, "loadOf"> {
  /** Security of the apps that have none of their own. @default cleartext */
  readonly security?: ConnectionSecurity | undefined;
  /** Told of a changed file of an app that is wrong; the old one stays in use. */
  readonly onRefused: (error: unknown) => void;
}

/** Makes connections to the apps of a directory over gRPC, each with its own security where it has one. */
export function createAppConnector(options: AppConnectorOptions): (entry: AppDirectoryEntry) => Connection {
  const { security: common = {}, loadOf, onRefused } = options;
  return ({ security, ...entry }) => {
    const own: OpenAppSecurity | undefined = security && openAppSecurity(security, { onRefused });
    const connection = connectApp({ ...entry, ...(own ?? common), loadOf });
    return {
      ...connection,
      close() {
        own?.close();
        connection.close();
      },
    };
  };
}
