import type { Logger } from "pino";
import { logRejectedFile } from "../../app/observe.js";
import type { Jobs } from "../../jobs/jobs.js";
import { reloadCallerKey } from "../../mesh/access/caller-key-interceptor.js";
import type { AppDirectory } from "../../mesh/directory/app-directory.js";
import { withRegisteredApps } from "../../mesh/directory/registered-apps.js";
import { isLoopbackName } from "../../mesh/port/listen-exposure.js";
import { createTlsChannelCredentials } from "../../mesh/tls/tls-channel.js";
import { reloadTlsMaterial } from "../../mesh/tls/tls-material.js";
import type { PipelineExtension } from "../../pipeline/pipeline-app.js";
import { loopbackRanges } from "../../registry/address-ranges.js";
import { createLeases } from "../../registry/leases.js";
import { createRegistrar, type Registrar } from "../../registry/registrar.js";
import { createRegistry } from "../../registry/registry.js";
import { type LeaseSharing, shareLeases } from "../../registry/shared-leases.js";
import type { registerOptions, registryOption } from "../options/app-options.js";
import type { OptionValues } from "../options/option.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";
import { packageVersion } from "../package-root.js";

/** The registry of a pipeline. */
export interface PipelineRegistry {
  /** The configured apps and those that have registered. */
  readonly directory: AppDirectory;
  /** Serves it; undefined if it is off. @param jobs those whose database server other pipelines use too */
  readonly extend: ((jobs: Pick<Jobs, "database"> | undefined) => PipelineExtension) | undefined;
}

/** Adds to the configured apps of a pipeline those whose workers register themselves, unless that is off. */
export function registryOf(
  { registerAllow = loopbackRanges }: OptionValues<{ registerAllow: typeof registryOption }>,
  configured: AppDirectory,
  logger: Pick<Logger, "info" | "warn">,
): PipelineRegistry {
  if (registerAllow === "none") {
    return { directory: configured, extend: undefined };
  }
  const leases = createLeases();
  const registry = createRegistry({ leases, allowed: registerAllow, logger });
  return {
    directory: withRegisteredApps({ configured, registered: leases }),
    extend(jobs) {
      let sharing: LeaseSharing | undefined;
      return {
        ...registry,
        async start() {
          sharing = jobs && (await shareLeases({ leases, database: await jobs.database(), logger }));
        },
        async close() {
          // While the database is still open.
          await Promise.all([sharing?.close(), registry.close()]);
        },
      };
    },
  };
}

/** Options of {@link registrarOf}. */
export interface RegistrarOfOptions {
  readonly appId: string;
  readonly host: string;
  readonly logger: Logger;
}

/** What is wrong with the options of {@link registrarOf} together, before their files are read. */
export function registerProblems(settings: OptionValues<typeof registerOptions>): readonly SettingProblem[] {
  const { register, registerAddress, registerTlsCert, registerTlsKey } = settings;
  return problemsOf([
    [
      register === undefined && registerAddress !== undefined,
      "--register-address",
      "needs --register",
      "name the pipelines too, or leave it out",
    ],
    [
      register !== undefined && (registerTlsCert === undefined) !== (registerTlsKey === undefined),
      "--tls-client-cert and --tls-client-key",
      "need each other; one of them is missing",
      "set both, or neither",
    ],
  ]);
}

/**
 * Prepares the registration of a worker: the function registers it at a port. Undefined without `--register`.
 *
 * @throws CliError (bad usage) when an option lacks another one that it needs; Error that names the file that is wrong.
 */
export function registrarOf(
  settings: OptionValues<typeof registerOptions>,
  { appId, host, logger }: RegistrarOfOptions,
): ((port: number) => Registrar) | undefined {
  const { register: pipelines, registerAddress: address } = settings;
  const { registerTlsCa: ca, registerTlsCert: cert, registerTlsKey: key, registerKeyFile } = settings;
  rejectProblems(registerProblems(settings));
  if (pipelines === undefined) {
    return undefined;
  }
  const onRejected = logRejectedFile(logger);
  const material = reloadTlsMaterial({ ca, cert, key }, { onRejected });
  const callerKey = registerKeyFile === undefined ? undefined : reloadCallerKey(registerKeyFile, { onRejected });
  const elsewhere = pipelines.filter((url) => !isLoopbackName(new URL(url).hostname));
  if (isLoopbackName(host) && elsewhere.length > 0 && address === undefined) {
    logger.warn(
      { host, pipelines: elsewhere },
      "pipelines on other machines cannot reach a worker that listens on loopback: --host 0.0.0.0 listens on all addresses",
    );
  }
  if (callerKey !== undefined && elsewhere.some((url) => url.startsWith("http:"))) {
    logger.warn({ pipelines: elsewhere }, "the key for the pipelines is sent in cleartext: use https://");
  }
  return (port) => {
    const credentials = createTlsChannelCredentials(material);
    const options = { pipelines, appId, port, version: packageVersion(), address, credentials, key: callerKey, logger };
    const registrar = createRegistrar(options);
    return {
      async end() {
        await registrar.end();
        material.close();
        callerKey?.close();
      },
    };
  };
}
