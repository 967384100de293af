import { randomBytes } from "node:crypto";
import type { Logger } from "pino";
import { createCallLog } from "../../app/call-log.js";
import { createGuard } from "../../app/protection.js";
import { type CallDemand, createCallDemand } from "../../calls/demand.js";
import { ExternalScaler } from "../../gen/externalscaler/externalscaler_pb.js";
import type { Jobs } from "../../jobs/jobs.js";
import type { AppDirectory } from "../../mesh/directory/app-directory.js";
import { type Listening, listen } from "../../mesh/port/listen.js";
import { OpenServerError } from "../../mesh/port/listen-exposure.js";
import { createConnectHandler } from "../../mesh/serve/connect-handler.js";
import type { PipelineExtension } from "../../pipeline/pipeline-app.js";
import { createPeerCalls } from "../../scaler/peer-calls.js";
import { createScalerService } from "../../scaler/scaler-service.js";
import { createWork } from "../../scaler/work.js";
import { CliError } from "../errors.js";
import type { kedaOptions } from "../options/keda-options.js";
import type { OptionValues } from "../options/option.js";
import type { hostOption, protectionOptions } from "../options/server-options.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";
import { startFailure } from "./run-service.js";
import { protectionOf } from "./security.js";

/** Settings of the port: address, TLS and callers are those of the pipeline. */
type ScalerSettings = OptionValues<typeof kedaOptions & typeof protectionOptions & { host: typeof hostOption }>;

/** Options of {@link scalerOf}. */
export interface ScalerOptions {
  readonly directory: AppDirectory;
  readonly logger: Logger;
}

/** KEDA's external scaler of a pipeline. */
export interface PipelineScaler {
  /** Counts the pipeline's calls. */
  readonly demand: CallDemand;
  /**
   * Creates the extension, which opens the port.
   *
   * @param jobs absent for a pipeline without jobs.
   * @param sharesDatabase whether other pipelines may use the jobs' database too.
   */
  extend(jobs: Pick<Jobs, "demand" | "peers"> | undefined, sharesDatabase: boolean): PipelineExtension;
}

/** What is wrong with the options of the scaler together. */
export function scalerProblems({ kedaPort, kedaInsecureOpen }: ScalerSettings): readonly SettingProblem[] {
  return problemsOf([
    [
      kedaPort === undefined && kedaInsecureOpen,
      "--keda-insecure-open",
      "needs --keda-port",
      "name the port, or leave it out",
    ],
  ]);
}

/** Calls of KEDA last milliseconds. */
const stopGraceMs = 500;

/**
 * Prepares the external scaler of a pipeline; undefined without `--keda-port`.
 *
 * @throws CliError (bad usage) when an option lacks another one that it needs.
 */
export function scalerOf(settings: ScalerSettings, { directory, logger }: ScalerOptions): PipelineScaler | undefined {
  rejectProblems(scalerProblems(settings));
  const { kedaPort: port, kedaInsecureOpen, host } = settings;
  if (port === undefined) {
    return undefined;
  }
  const demand = createCallDemand();
  const protection = protectionOf(settings, logger);
  const access = kedaInsecureOpen ? { ...protection, callers: undefined, open: true } : protection;

  const open = async (service: ReturnType<typeof createScalerService>): Promise<Listening> => {
    const { address, accessControl, onTlsRejected, close } = await createGuard({
      ...access,
      host,
      reflection: "off",
      logger,
    });
    const listening = await listen({
      host: address,
      port,
      tls: access.tls,
      onTlsRejected,
      handler: createConnectHandler({
        routes: (router) => router.service(ExternalScaler, service),
        accessControl,
        interceptors: [createCallLog({ logger, services: [] })],
        onInternalError: (error, path) => logger.error({ err: error, path }, "an answer to KEDA could not be made"),
      }),
    });
    return { ...listening, stop: (stopOptions) => listening.stop(stopOptions).finally(close) };
  };

  return {
    demand,
    extend(jobs, sharesDatabase) {
      const ending = new AbortController();
      const onError = (error: unknown) =>
        logger.warn({ err: error }, "the calls cannot be reported to other pipelines");
      const peers =
        jobs !== undefined && sharesDatabase
          ? createPeerCalls({ channel: jobs.peers, calls: demand, origin: randomBytes(8).toString("hex"), onError })
          : undefined;
      const work = createWork({ calls: demand, jobs: jobs?.demand, peers });
      const service = createScalerService({ directory, work, ending: ending.signal, logger });
      let listening: Listening | undefined;
      const stop = async () => listening?.stop({ graceMs: stopGraceMs });
      return {
        services: [],
        routes: () => {},
        httpRoute: () => false,
        async start() {
          await peers?.start();
          listening = await open(service).catch((error: unknown) => {
            throw kedaFailure(error);
          });
          logger.info({ url: listening.url }, "KEDA can ask for the work of the apps");
        },
        end() {
          ending.abort();
          void stop();
        },
        async close() {
          ending.abort();
          // While the database is still open.
          await Promise.all([peers?.close(), stop()]);
        },
      };
    },
  };
}

function kedaFailure(error: unknown): CliError {
  if (error instanceof OpenServerError) {
    return new CliError(
      `the KEDA endpoint cannot start: anonymous clients could call it at ${error.host}. Authenticate KEDA with ` +
        "--tls-client-ca, or allow everybody who reaches the port with --keda-insecure-open",
      { cause: error },
    );
  }
  return startFailure("the KEDA endpoint", error, "--keda-port");
}
