import { optionalSetting } from "./setting.js";
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
