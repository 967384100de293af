import { defaultAppId } from "../../worker/default-app-id.js";
import { option } from "./option.js";
import { appId, nonEmpty, workerTargets } from "./values.js";

/** The worker of a machine on which nothing is configured. */
export const defaultWorkers = { [defaultAppId]: "127.0.0.1:50052" };

export const appsFileOption = option(
  "--apps <file>",
  "Apps with their targets, policies and credentials, YAML or JSON as in docs/deployment.md; reloaded when the file changes",
  { env: "THROUGHLINE_APPS_FILE", parse: nonEmpty, absent: "none" },
);

/** Which worker apps there are. */
export const directoryOptions = {
  workers: option(
    "--worker <owner/name=target>",
    "App id of a worker and its gRPC target; the flag may be repeated, the variable separates workers by commas",
    {
      env: "THROUGHLINE_WORKERS",
      parse: workerTargets,
      repeatable: true,
      absent: Object.entries(defaultWorkers)
        .map(([app, target]) => `${app}=${target}`)
        .join(),
    },
  ),
  apps: appsFileOption,
  defaultApp: option(
    "--default-app <owner/name>",
    "App id for requests that name none; not with --apps, which has its own",
    {
      env: "THROUGHLINE_DEFAULT_APP",
      parse: appId,
      absent: "the worker, if there is only one",
    },
  ),
};

/** Credentials that an app sends to the apps that it calls. */
export const workerSecurityOptions = {
  workerTlsCa: option(
    "--worker-tls-ca <file>",
    "Certificate authorities of the workers' certificates, PEM; workers are then called over TLS",
    { env: "THROUGHLINE_WORKER_TLS_CA", parse: nonEmpty, absent: "workers are called in cleartext" },
  ),
  workerTlsCert: option("--worker-tls-cert <file>", "Client certificate for the workers, PEM", {
    env: "THROUGHLINE_WORKER_TLS_CERT",
    parse: nonEmpty,
    absent: "none",
  }),
  workerTlsKey: option("--worker-tls-key <file>", "Private key of the client certificate for the workers, PEM", {
    env: "THROUGHLINE_WORKER_TLS_KEY",
    parse: nonEmpty,
    absent: "none",
  }),
  workerKeyFile: option(
    "--worker-key-file <file>",
    "File with the caller's key for the workers; reloaded when the file changes",
    { env: "THROUGHLINE_WORKER_KEY_FILE", parse: nonEmpty, absent: "none" },
  ),
};
