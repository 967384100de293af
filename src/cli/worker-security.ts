import type { Logger } from "pino";
import { createCallerKeyInterceptor, reloadCallerKey } from "../mesh/caller-key-interceptor.js";
import type { ConnectionSecurity } from "../mesh/connection-security.js";
import { createTlsChannelCredentials } from "../mesh/tls-channel.js";
import { reloadTlsMaterial } from "../mesh/tls-material.js";
import { usageError } from "./command-error.js";
import { optionalSetting, type SettingsOf } from "./setting.js";
import { text } from "./setting-schemas.js";

/** Settings of how an app shows itself to the apps that it calls. */
export const workerSecuritySettings = {
  workerTlsCa: optionalSetting({
    flag: "worker-tls-ca",
    argument: "file",
    variable: "THROUGHLINE_WORKER_TLS_CA",
    schema: text,
    absent: "workers are called in cleartext",
    help: "Authorities of the workers' certificates, PEM; workers are then called over TLS",
  }),
  workerTlsCert: optionalSetting({
    flag: "worker-tls-cert",
    argument: "file",
    variable: "THROUGHLINE_WORKER_TLS_CERT",
    schema: text,
    absent: "none is shown",
    help: "Client certificate for the workers, PEM",
  }),
  workerTlsKey: optionalSetting({
    flag: "worker-tls-key",
    argument: "file",
    variable: "THROUGHLINE_WORKER_TLS_KEY",
    schema: text,
    absent: "none",
    help: "Private key of the client certificate for the workers, PEM",
  }),
  workerKeyFile: optionalSetting({
    flag: "worker-key-file",
    argument: "file",
    variable: "THROUGHLINE_WORKER_KEY_FILE",
    schema: text,
    absent: "none is sent",
    help: "File that holds the caller's key for the workers; read anew when it changes",
  }),
};

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
