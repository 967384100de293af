import { loopbackRanges } from "../../registry/address-ranges.js";
import { defaultAppId } from "../../worker/default-app-id.js";
import { accessOptions } from "./client-options.js";
import { option } from "./option.js";
import { addressRanges, appId, ipAddress, nonEmpty, pipelineUrls, workerTargets } from "./values.js";

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

/** Workers that register themselves at a pipeline. */
export const registryOption = option(
  "--register-allow <cidr>",
  "IP addresses from which workers may register without a callers file, and that workers may name; the flag may be repeated, the variable separates ranges by commas; none turns registration off",
  {
    env: "THROUGHLINE_REGISTER_ALLOW",
    parse: addressRanges,
    repeatable: true,
    absent: loopbackRanges.labels.join(),
  },
);

/** Where a worker registers itself. Its credentials for the pipelines are the options of a client. */
export const registerOptions = {
  register: option(
    "--register <url>",
    "Base URL of a pipeline at which the worker registers itself, at each address of its host; the flag may be repeated, the variable separates URLs by commas",
    { env: "THROUGHLINE_REGISTER", parse: pipelineUrls, repeatable: true, absent: "none" },
  ),
  registerAddress: option(
    "--register-address <ip>",
    "IP address under which pipelines reach the worker, if it is behind a proxy or NAT; they need it in --register-allow",
    { env: "THROUGHLINE_REGISTER_ADDRESS", parse: ipAddress, absent: "that of the worker's connection" },
  ),
  registerTlsCa: accessOptions.tlsCa,
  registerTlsCert: accessOptions.tlsCert,
  registerTlsKey: accessOptions.tlsKey,
  registerKeyFile: accessOptions.keyFile,
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
  workerTlsName: option(
    "--worker-tls-name <name>",
    "Name that the workers' certificates must have, such as of workers that register themselves",
    { env: "THROUGHLINE_WORKER_TLS_NAME", parse: nonEmpty, absent: "the host of the target, or the IP address" },
  ),
  workerKeyFile: option(
    "--worker-key-file <file>",
    "File with the caller's key for the workers; reloaded when the file changes",
    { env: "THROUGHLINE_WORKER_KEY_FILE", parse: nonEmpty, absent: "none" },
  ),
};
