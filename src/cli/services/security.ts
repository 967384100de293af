import type { SecureContextOptions } from "node:tls";
import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { logRejectedFile } from "../../app/observe.js";
import type { Protection } from "../../app/protection.js";
import { createCallerKeyInterceptor, reloadCallerKey } from "../../mesh/access/caller-key-interceptor.js";
import { reloadCallersFile } from "../../mesh/access/callers-file.js";
import { createHostCheck, type HostCheck } from "../../mesh/access/host-check.js";
import { openAppSecurity } from "../../mesh/directory/app-security.js";
import type { ConnectionSecurity } from "../../mesh/grpc/connection.js";
import { isLoopbackName } from "../../mesh/port/listen-exposure.js";
import { material, reloadTlsMaterial } from "../../mesh/tls/tls-material.js";
import { tlsPolicy } from "../../mesh/tls/tls-policy.js";
import { CliError, messageOf, usageError } from "../errors.js";
import type { workerSecurityOptions } from "../options/app-options.js";
import type { accessOptions } from "../options/client-options.js";
import type { OptionValues } from "../options/option.js";
import type { hostOption, protectionOptions } from "../options/server-options.js";

/**
 * Authentication and TLS of a server. Its files are read, and reloaded when they change.
 *
 * @throws CliError (bad usage) when an option lacks another one that it needs; Error that names the file that is wrong.
 */
export function protectionOf(
  settings: OptionValues<typeof protectionOptions & { host: typeof hostOption }>,
  logger: Pick<Logger, "error">,
): Protection {
  const { host, tlsCert, tlsKey, tlsClientCa, tlsOptional, callers, insecureOpen } = settings;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw usageError("--tls-cert and --tls-key need each other; one of them is missing");
  }
  if (tlsClientCa !== undefined && tlsCert === undefined) {
    throw usageError("--tls-client-ca needs --tls-cert and --tls-key");
  }
  if (tlsOptional && (tlsCert === undefined || tlsClientCa !== undefined || !isLoopbackName(host))) {
    throw usageError("--tls-optional needs --tls-cert and --tls-key, no --tls-client-ca, and a --host on loopback");
  }
  const onRejected = logRejectedFile(logger);
  return {
    open: insecureOpen,
    callers: callers === undefined ? undefined : reloadCallersFile(callers, { onRejected }),
    ...(tlsCert !== undefined && {
      tls: {
        material: reloadTlsMaterial({ cert: tlsCert, key: tlsKey, ca: tlsClientCa }, { onRejected }),
        isOptional: tlsOptional,
        clientCertificate: tlsClientCa === undefined ? "none" : callers === undefined ? "required" : "optional",
      },
    }),
  };
}

type HostCheckOptions = { readonly publicUrl?: string | undefined } & OptionValues<
  typeof protectionOptions & { host: typeof hostOption }
>;

/** The host names under which a server answers browsers. */
export function hostCheckOf({ host, publicUrl, callers, tlsClientCa, insecureOpen }: HostCheckOptions): HostCheck {
  return createHostCheck({
    host,
    publicUrl,
    anyHost: insecureOpen || callers !== undefined || tlsClientCa !== undefined,
  });
}

/**
 * Credentials for the workers. Their files are read, and reloaded when they change.
 *
 * @throws CliError (bad usage) when an option lacks another one that it needs; Error that names the file that is wrong.
 */
export function workerSecurityOf(
  {
    workerTlsCa: ca,
    workerTlsCert: cert,
    workerTlsKey: key,
    workerTlsName: serverName,
    workerKeyFile,
  }: OptionValues<typeof workerSecurityOptions>,
  logger: Pick<Logger, "error" | "warn">,
): ConnectionSecurity {
  if ((cert === undefined) !== (key === undefined)) {
    throw usageError("--worker-tls-cert and --worker-tls-key need each other; one of them is missing");
  }
  if (cert !== undefined && ca === undefined) {
    throw usageError("--worker-tls-cert needs --worker-tls-ca");
  }
  if (serverName !== undefined && ca === undefined) {
    throw usageError("--worker-tls-name needs --worker-tls-ca");
  }
  if (workerKeyFile !== undefined && ca === undefined) {
    logger.warn("the key for the workers is sent in cleartext; --worker-tls-ca encrypts it");
  }
  return openAppSecurity(
    { keyFile: workerKeyFile, ...(ca !== undefined && { tls: { ca, cert, key, serverName } }) },
    { onRejected: logRejectedFile(logger) },
  );
}

/** Credentials of a command for a server. */
export interface Access {
  /** For Node's TLS functions. */
  readonly tls: SecureContextOptions;
  readonly interceptors: Interceptor[];
  /** The header that the interceptors add, for requests without them; undefined without a key. */
  readonly authorization: string | undefined;
}

/**
 * Reads the credentials that the options name.
 *
 * @throws CliError that names the file that is wrong.
 */
export function accessOf({
  tlsCa: ca,
  tlsCert: cert,
  tlsKey: key,
  keyFile,
}: OptionValues<typeof accessOptions>): Access {
  const once = { onRejected() {} };
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
    throw new CliError(messageOf(error), { cause: error });
  }
}
