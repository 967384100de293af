import { createCallerKeyInterceptor, reloadCallerKey } from "../access/caller-key-interceptor.js";
import type { ConnectionSecurity } from "../grpc/connection.js";
import type { ReloadOptions } from "../tls/reloaded-files.js";
import { createTlsChannelCredentials } from "../tls/tls-channel.js";
import { reloadTlsMaterial, type TlsFiles } from "../tls/tls-material.js";

/** Files that say how an app's workers are connected to, and how we show who calls. All are read anew when they change. */
export interface AppSecurity {
  /** Absent: cleartext. */
  readonly tls?: AppTls | undefined;
  /** File that holds our caller's key. */
  readonly keyFile?: string | undefined;
}

/** TLS to an app's workers. Without `ca` their certificates are checked against Node's own authorities. */
export interface AppTls extends TlsFiles {
  /** Name that their certificates have to be for. @default the target's host */
  readonly serverName?: string | undefined;
}

/** Security whose files are watched until it is closed. */
export interface OpenAppSecurity extends ConnectionSecurity {
  /** Watches no more; what was read last stays in use. */
  close(): void;
}

/**
 * Reads an app's files and watches them.
 *
 * @param security the app's.
 * @throws Error that names the file that is wrong, or what is missing.
 */
export function openAppSecurity({ tls, keyFile }: AppSecurity, options: ReloadOptions): OpenAppSecurity {
  const { serverName, ...files } = tls ?? {};
  const material = tls && reloadTlsMaterial(files, options);
  try {
    const key = keyFile === undefined ? undefined : reloadCallerKey(keyFile, options);
    return {
      ...(material && { credentials: createTlsChannelCredentials(material) }),
      ...(key && { interceptors: [createCallerKeyInterceptor(key)] }),
      ...(serverName !== undefined && { serverName }),
      close() {
        material?.close();
        key?.close();
      },
    };
  } catch (error) {
    material?.close();
    throw error;
  }
}
