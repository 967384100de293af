import { isIP } from "node:net";
import { reloadCallerKey } from "../../mesh/access/caller-key-interceptor.js";
import { reloadCallersFile } from "../../mesh/access/callers-file.js";
import { checkExposure, isLoopbackName, OpenServerError } from "../../mesh/port/listen-exposure.js";
import { reloadFiles } from "../../mesh/tls/reloaded-files.js";
import { reloadTlsMaterial, type TlsFiles } from "../../mesh/tls/tls-material.js";
import type { registerOptions, workerSecurityOptions } from "../options/app-options.js";
import type { OptionValues } from "../options/option.js";
import type { hostOption, protectionOptions } from "../options/server-options.js";
import { registerProblems } from "../services/registry.js";
import { protectionProblems, workerSecurityProblems } from "../services/security.js";
import type { Problems } from "./problems.js";

type ProtectionSettings = OptionValues<typeof protectionOptions & { host: typeof hostOption }>;

/** A watch that is closed at once: files are read as a start reads them. */
const once = { onRejected() {} };

/** Checks who may call a server, and the files that say so. */
export async function checkProtection(settings: ProtectionSettings, problems: Problems): Promise<void> {
  const { host, tlsCert, tlsKey, tlsClientCa, callers, insecureOpen } = settings;
  problems.add(protectionProblems(settings));
  await checkTls(
    { cert: ["--tls-cert", tlsCert], key: ["--tls-key", tlsKey], ca: ["--tls-client-ca", tlsClientCa] },
    problems,
  );
  if (callers !== undefined) {
    await problems.attempt(
      "--callers",
      "correct the file; SECURITY.md shows one, and `throughline keys` makes entries",
      () => reloadCallersFile(callers, once).close(),
    );
  }
  await checkExposure({
    host,
    authenticatesCallers: callers !== undefined || tlsClientCa !== undefined,
    allowOpen: insecureOpen,
    // No name is looked up: one that is not of this machine's loopback is reached from elsewhere.
    resolve: async (name) => ({ address: isIP(name) ? name : isLoopbackName(name) ? "127.0.0.1" : "0.0.0.0" }),
  }).catch((error: unknown) => {
    if (!(error instanceof OpenServerError)) {
      throw error;
    }
    const remedy =
      "authenticate callers with --callers or --tls-client-ca, or allow anonymous ones with --insecure-open";
    problems.add([{ setting: "--host", problem: `${host}: anonymous clients could call this server`, remedy }]);
  });
}

/** Flags of the files of one side of TLS, with their values. */
type FlaggedFiles = Readonly<Record<keyof TlsFiles, readonly [flag: string, file: string | undefined]>>;

/** Checks that each file can be read, and then what is in it: the pair of certificate and key, and the authorities. */
async function checkTls({ cert, key, ca }: FlaggedFiles, problems: Problems): Promise<void> {
  const readable = async ([flag, file]: readonly [string, string | undefined]): Promise<string | undefined> =>
    file === undefined
      ? undefined
      : problems.attempt(flag, "name a file that this user can read", () => {
          reloadFiles({ files: [file], make: () => file, ...once }).close();
          return file;
        });
  const [certFile, keyFile, caFile] = [await readable(cert), await readable(key), await readable(ca)];
  if (certFile !== undefined && keyFile !== undefined) {
    await problems.attempt(`${cert[0]}, ${key[0]}`, "renew the certificate, or name the key that belongs to it", () =>
      reloadTlsMaterial({ cert: certFile, key: keyFile }, once).close(),
    );
  }
  if (caFile !== undefined) {
    await problems.attempt(ca[0], "name a PEM file with the authorities' certificates", () =>
      reloadTlsMaterial({ ca: caFile }, once).close(),
    );
  }
}

/** Checks the credentials for calls to workers. */
export async function checkWorkerSecurity(
  settings: OptionValues<typeof workerSecurityOptions>,
  problems: Problems,
): Promise<void> {
  const { workerTlsCa, workerTlsCert, workerTlsKey, workerKeyFile } = settings;
  problems.add(workerSecurityProblems(settings));
  await checkTls(
    {
      cert: ["--worker-tls-cert", workerTlsCert],
      key: ["--worker-tls-key", workerTlsKey],
      ca: ["--worker-tls-ca", workerTlsCa],
    },
    problems,
  );
  await checkKeyFile("--worker-key-file", workerKeyFile, problems);
}

/** Checks the registration of a worker at pipelines, and its credentials for them. */
export async function checkRegistration(
  settings: OptionValues<typeof registerOptions>,
  problems: Problems,
): Promise<void> {
  const { register, registerTlsCa, registerTlsCert, registerTlsKey, registerKeyFile } = settings;
  problems.add(registerProblems(settings));
  // Without --register, the start does not read them.
  if (register === undefined) {
    return;
  }
  await checkTls(
    {
      cert: ["--tls-client-cert", registerTlsCert],
      key: ["--tls-client-key", registerTlsKey],
      ca: ["--tls-ca", registerTlsCa],
    },
    problems,
  );
  await checkKeyFile("--key-file", registerKeyFile, problems);
}

async function checkKeyFile(flag: string, file: string | undefined, problems: Problems): Promise<void> {
  if (file !== undefined) {
    await problems.attempt(flag, "write the key that `throughline keys` printed into the file", () =>
      reloadCallerKey(file, once).close(),
    );
  }
}

/** Checks that no port of one machine is used twice. @param ports by flag; undefined for a port that is not opened. */
export function checkPorts(ports: Readonly<Record<string, number | undefined>>, problems: Problems): void {
  const used = Object.entries(ports).filter(([, port]) => port !== undefined && port !== 0);
  for (const [index, [setting, port]] of used.entries()) {
    const other = used.slice(0, index).find(([, each]) => each === port);
    if (other !== undefined) {
      const remedy = "give each its own port, or 0 for a free one";
      problems.add([{ setting, problem: `is ${port}, as ${other[0]}`, remedy }]);
    }
  }
}
