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
import { CliError, messageOf } from "../errors.js";
import type { workerSecurityOptions } from "../options/app-options.js";
import type { accessOptions } from "../options/client-options.js";
import type { OptionValues } from "../options/option.js";
import type { hostOption, protectionOptions } from "../options/server-options.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";

/**
 * Authentication and TLS of a server. Its files are read, and reloaded when they change.
 *
 * @throws CliError (bad usage) when an option lacks another one that it needs; Error that names the file that is wrong.
 */
export function protectionOf(settings: ProtectionSettings, logger: Pick<Logger, "error">): Protection {
  rejectProblems(protectionProblems(settings));
  const { tlsCert, tlsKey, tlsClientCa, tlsOptional, callers, insecureOpen } = settings;
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

type ProtectionSettings = OptionValues<typeof protectionOptions & { host: typeof hostOption }>;

/** What is wrong with the options of {@link protectionOf} together, before their files are read. */
export function protectionProblems(settings: ProtectionSettings): readonly SettingProblem[] {
  const { host, tlsCert, tlsKey, tlsClientCa, tlsOptional } = settings;
  const mayBeOptional = tlsCert !== undefined && tlsClientCa === undefined && isLoopbackName(host);
  return problemsOf([
    [
      (tlsCert === undefined) !== (tlsKey === undefined),
      "--tls-cert and --tls-key",
      "need each other; one of them is missing",
      "set both, or neither",
    ],
    [
      tlsClientCa !== undefined && tlsCert === undefined,
      "--tls-client-ca",
      "needs --tls-cert and --tls-key",
      "name the server's certificate and its key too",
    ],
    [
      tlsOptional && !mayBeOptional,
      "--tls-optional",
      "needs --tls-cert and --tls-key, no --tls-client-ca, and a --host on loopback",
      "leave it out, or serve on loopback without client certificates",
    ],
  ]);
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
  settings: OptionValues<typeof workerSecurityOptions>,
  logger: Pick<Logger, "error" | "warn">,
): ConnectionSecurity {
  rejectProblems(workerSecurityProblems(settings));
  const {
    workerTlsCa: ca,
    workerTlsCert: cert,
    workerTlsKey: key,
    workerTlsName: serverName,
    workerKeyFile,
  } = settings;
  if (workerKeyFile !== undefined && ca === undefined) {
    logger.warn("the key for the workers is sent in cleartext; --worker-tls-ca encrypts it");
  }
  return openAppSecurity(
    { keyFile: workerKeyFile, ...(ca !== undefined && { tls: { ca, cert, key, serverName } }) },
    { onRejected: logRejectedFile(logger) },
  );
}

/** What is wrong with the options of {@link workerSecurityOf} together, before their files are read. */
export function workerSecurityProblems({
  workerTlsCa: ca,
  workerTlsCert: cert,
  workerTlsKey: key,
  workerTlsName: serverName,
}: OptionValues<typeof workerSecurityOptions>): readonly SettingProblem[] {
  return problemsOf([
    [
      (cert === undefined) !== (key === undefined),
      "--worker-tls-cert and --worker-tls-key",
      "need each other; one of them is missing",
      "set both, or neither",
    ],
    [
      cert !== undefined && ca === undefined,
      "--worker-tls-cert",
      "needs --worker-tls-ca",
      "name the authorities of the workers' certificates too",
    ],
    [
      serverName !== undefined && ca === undefined,
      "--worker-tls-name",
      "needs --worker-tls-ca",
      "name the authorities of the workers' certificates too",
    ],
  ]);
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
