import { createCallerKeyInterceptor, reloadCallerKey } from "../access/caller-key-interceptor.js";
import type { ConnectionSecurity } from "../grpc/connection.js";
import type { ReloadOptions } from "../tls/reloaded-files.js";
import { createTlsChannelCredentials } from "../tls/tls-channel.js";
import { reloadTlsMaterial, type TlsFiles } from "../tls/tls-material.js";

/** TLS and key files for the connections to an app's workers. All are reloaded on changes. */
export interface AppSecurity {
  /** Absent: cleartext. */
  readonly tls?: AppTls | undefined;
  /** File with our caller's key. */
  readonly keyFile?: string | undefined;
}

/** TLS to an app's workers. Without `ca`, Node's root certificates apply. */
export interface AppTls extends TlsFiles {
  /** Expected name in their certificates. @default the target's host */
  readonly serverName?: string | undefined;
}

/** Loaded security, reloaded on changes until it is closed. */
export interface OpenAppSecurity extends ConnectionSecurity {
  /** Stops reloading; the last loaded files stay in use. */
  close(): void;
}

/**
 * Load an app's security files and reload them on changes.
 *
 * @throws Error that names the invalid or missing file.
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
