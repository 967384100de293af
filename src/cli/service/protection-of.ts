import type { Logger } from "pino";
import { logRefusedFile } from "../../app/observe.js";
import type { Protection } from "../../app/protection.js";
import { reloadCallersFile } from "../../mesh/access/callers-file.js";
import { reloadTlsMaterial } from "../../mesh/tls/tls-material.js";
import { usageError } from "../command-error.js";
import type { protectionSettings } from "../settings/protection-settings.js";
import type { SettingsOf } from "../settings/setting.js";

/**
 * A server's protection as the settings say. Its files are read, and looked at from now on.
 *
 * @throws CommandError (bad usage) where settings do not go together; Error that names the file that is wrong.
 */
export function protectionOf(
  settings: SettingsOf<typeof protectionSettings>,
  logger: Pick<Logger, "error">,
): Protection {
  const { tlsCert, tlsKey, tlsClientCa, callers, insecureOpen } = settings;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw usageError("--tls-cert and --tls-key belong together; one of them is missing");
  }
  if (tlsClientCa !== undefined && tlsCert === undefined) {
    throw usageError("--tls-client-ca needs --tls-cert and --tls-key");
  }
  const onRefused = logRefusedFile(logger);
  return {
    open: insecureOpen,
    ...(callers !== undefined && { callers: reloadCallersFile(callers, { onRefused }) }),
    ...(tlsCert !== undefined && {
      tls: {
        material: reloadTlsMaterial({ cert: tlsCert, key: tlsKey, ca: tlsClientCa }, { onRefused }),
        clientCertificate: tlsClientCa === undefined ? "none" : callers === undefined ? "required" : "optional",
      },
    }),
  };
}
