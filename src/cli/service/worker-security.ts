import type { Logger } from "pino";
import { logRefusedFile } from "../../app/observe.js";
import { openAppSecurity } from "../../mesh/directory/app-security.js";
import type { ConnectionSecurity } from "../../mesh/grpc/connection.js";
import { usageError } from "../command-error.js";
import type { SettingsOf } from "../settings/setting.js";
import type { workerSecuritySettings } from "../settings/worker-security-settings.js";

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
  if (workerKeyFile !== undefined && ca === undefined) {
    logger.warn("the key for the workers travels in cleartext");
  }
  return openAppSecurity(
    { keyFile: workerKeyFile, ...(ca !== undefined && { tls: { ca, cert, key } }) },
    { onRefused: logRefusedFile(logger) },
  );
}
