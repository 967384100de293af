import { optionalSetting, setting } from "./setting.js";
import { oneOf, text, truth } from "./setting-schemas.js";

/** Settings of who may call a server, and how its connections are encrypted. */
export const protectionSettings = {
  tlsCert: optionalSetting({
    flag: "tls-cert",
    argument: "file",
    variable: "THROUGHLINE_TLS_CERT",
    schema: text,
    absent: "no TLS",
    help: "The server's certificate and those behind it, PEM; read anew when it changes",
  }),
  tlsKey: optionalSetting({
    flag: "tls-key",
    argument: "file",
    variable: "THROUGHLINE_TLS_KEY",
    schema: text,
    absent: "no TLS",
    help: "Private key of the server's certificate, PEM",
  }),
  tlsClientCa: optionalSetting({
    flag: "tls-client-ca",
    argument: "file",
    variable: "THROUGHLINE_TLS_CLIENT_CA",
    schema: text,
    absent: "clients are asked for none",
    help: "Authorities of clients' certificates, PEM; without --callers every client needs one, and any of them will do",
  }),
  callers: optionalSetting({
    flag: "callers",
    argument: "file",
    variable: "THROUGHLINE_CALLERS",
    schema: text,
    absent: "anybody may call",
    help: "Who may call, and how much: YAML or JSON as SECURITY.md has it; read anew when it changes",
  }),
  insecureOpen: setting({
    flag: "insecure-open",
    variable: "THROUGHLINE_INSECURE_OPEN",
    schema: truth,
    default: "false",
    help: "Let anybody call who reaches an address that is not loopback",
  }),
};

/** Whom a service describes itself to. */
export const reflectionSetting = setting({
  flag: "reflection",
  argument: "whom",
  variable: "THROUGHLINE_REFLECTION",
  schema: oneOf(["callers", "open", "off"]),
  default: "callers",
  help: "Whom reflection tells of the services: callers (who may call them), open (anybody) or off",
});

/** How strictly a service reads JSON. */
export const ignoreUnknownFieldsSetting = setting({
  flag: "ignore-unknown-fields",
  variable: "THROUGHLINE_IGNORE_UNKNOWN_FIELDS",
  schema: truth,
  default: "false",
  help: "Ignore JSON fields that the contract does not have, in place of INVALID_ARGUMENT",
});
