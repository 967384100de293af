import { type ConnectAppOptions, connectApp } from "../balance/connect-app.js";
import type { ConnectionSecurity } from "../grpc/connection.js";
import type { ConnectApp } from "./app-connections.js";
import { type OpenAppSecurity, openAppSecurity } from "./app-security.js";

/** Options of {@link createAppConnector}. */
export interface AppConnectorOptions extends Pick<ConnectAppOptions, "loadOf" | "fallback"> {
  /** Security of apps without their own. @default cleartext */
  readonly security?: ConnectionSecurity | undefined;
  /** Called when a changed file of an app is invalid; the old one stays in use. */
  readonly onRejected: (error: unknown) => void;
}

/** Create the function that connects to apps over gRPC, each with its own security or the common one. */
export function createAppConnector(options: AppConnectorOptions): ConnectApp {
  const { security: common = {}, loadOf, fallback, onRejected } = options;
  return ({ security, ...entry }, interceptors) => {
    const own: OpenAppSecurity | undefined = security && openAppSecurity(security, { onRejected });
    const secure = own ?? common;
    const connection = connectApp({
      ...entry,
      ...secure,
      interceptors: [...interceptors, ...(secure.interceptors ?? [])],
      loadOf,
      fallback,
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
