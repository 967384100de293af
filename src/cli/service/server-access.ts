import type { SecureContextOptions } from "node:tls";
import type { Interceptor } from "@connectrpc/connect";
import { createCallerKeyInterceptor, reloadCallerKey } from "../../mesh/access/caller-key-interceptor.js";
import { material, reloadTlsMaterial } from "../../mesh/tls/tls-material.js";
import { tlsPolicy } from "../../mesh/tls/tls-policy.js";
import { CommandError } from "../command-error.js";
import type { serverAccessSettings } from "../settings/server-access-settings.js";
import type { SettingsOf } from "../settings/setting.js";

/** What a connection to a server needs besides its URL. */
export interface ServerAccess {
  /** For Node's TLS functions. */
  readonly tls: SecureContextOptions;
  readonly interceptors: Interceptor[];
  /** The same that the interceptors add, as a header's value; undefined where there is no key. */
  readonly authorization: string | undefined;
}

/**
 * Reads what the settings name.
 *
 * @throws CommandError that names the file that is wrong.
 */
export function serverAccessOf(settings: SettingsOf<typeof serverAccessSettings>): ServerAccess {
  const { tlsCa: ca, tlsCert: cert, tlsKey: key, keyFile } = settings;
  const once = { onRefused() {} };
  try {
    const tls = reloadTlsMaterial({ ca, cert, key }, once);
    tls.close();
    const callerKey = keyFile === undefined ? undefined : reloadCallerKey(keyFile, once);
    callerKey?.close();
    return {
      tls: { ...tlsPolicy, ...material(tls.current) },
      interceptors: callerKey === undefined ? [] : [createCallerKeyInterceptor(callerKey)],
      authorization: callerKey && `Bearer ${callerKey.current}`,
    };
  } catch (error) {
    throw new CommandError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
