import type { Logger } from "pino";
import { createCallerKeyInterceptor, reloadCallerKey } from "../mesh/caller-key-interceptor.js";
import type { ConnectionSecurity } from "../mesh/connection-security.js";
import { createTlsChannelCredentials } from "../mesh/tls-channel.js";
import { reloadTlsMaterial } from "../mesh/tls-material.js";
import { usageError } from "./command-error.js";
import type { SettingsOf } from "./setting.js";
import type { workerSecuritySettings } from "./worker-security-settings.js";

/**
 * How workers are connected to, as the settings say. Its files are read, and looked at from now on.
 *
 * @throws CommandError (bad usage) where settings do not go together; Error that names the file that is wrong.
 */
export function workerSecurityOf(
  settings: SettingsOf<typeof workerSecuritySettings>,
  logger: Pick<Logger, "error" | "warn">,
): ConnectionSecurity {
  const { workerTlsCa: ca, workerTlsCert: cert, workerTlsKey: key, workerKeyFile } = settings;
  if ((cert === undefined) !== (key === undefined)) {
    throw usageError("--worker-tls-cert and --worker-tls-key belong together; one of them is missing");
  }
  if (cert !== undefined && ca === undefined) {
    throw usageError("--worker-tls-cert needs --worker-tls-ca");
  }
  const onRefused = (error: unknown) =>
    logger.error(
      { reason: error instanceof Error ? error.message : error },
      "a changed file is wrong, the old one stays",
    );
  if (workerKeyFile !== undefined && ca === undefined) {
    logger.warn("the key for the workers travels in cleartext");
  }
  return {
    ...(ca !== undefined && {
      credentials: createTlsChannelCredentials(reloadTlsMaterial({ ca, cert, key }, { onRefused })),
    }),
    ...(workerKeyFile !== undefined && {
      interceptors: [createCallerKeyInterceptor(reloadCallerKey(workerKeyFile, { onRefused }))],
    }),
  };
}
