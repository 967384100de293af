import { type ConnectAppOptions, connectApp } from "../balance/connect-app.js";
import type { ConnectionSecurity } from "../grpc/connection.js";
import type { ConnectApp } from "./app-connections.js";
import { type OpenAppSecurity, openAppSecurity } from "./app-security.js";

/** Options of {@link createAppConnector}. */
export interface AppConnectorOptions extends Pick<ConnectAppOptions, "loadOf"> {
  /** Security of the apps that have none of their own. @default cleartext */
  readonly security?: ConnectionSecurity | undefined;
  /** Told of a changed file of an app that is wrong; the old one stays in use. */
  readonly onRejected: (error: unknown) => void;
}

/** Makes connections to the apps of a directory over gRPC, each with its own security where it has one. */
export function createAppConnector(options: AppConnectorOptions): ConnectApp {
  const { security: common = {}, loadOf, onRejected } = options;
  return ({ security, ...entry }, interceptors) => {
    const own: OpenAppSecurity | undefined = security && openAppSecurity(security, { onRejected });
    const secure = own ?? common;
    const connection = connectApp({
      ...entry,
      ...secure,
      interceptors: [...interceptors, ...(secure.interceptors ?? [])],
      loadOf,
    });
    return {
      ...connection,
      close() {
        own?.close();
        connection.close();
      },
    };
  };
}
