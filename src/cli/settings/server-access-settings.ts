import { optionalSetting } from "./setting.js";
import { text } from "./setting-schemas.js";

/** Settings of how a command gets into a server. */
export const serverAccessSettings = {
  tlsCa: optionalSetting({
    flag: "tls-ca",
    argument: "file",
    variable: "THROUGHLINE_TLS_CA",
    schema: text,
    absent: "Node's own",
    help: "Authorities that an https:// server's certificate is checked against, PEM",
  }),
  tlsCert: optionalSetting({
    flag: "tls-client-cert",
    argument: "file",
    variable: "THROUGHLINE_TLS_CLIENT_CERT",
    schema: text,
    absent: "none is shown",
    help: "Client certificate for the server, PEM",
  }),
  tlsKey: optionalSetting({
    flag: "tls-client-key",
    argument: "file",
    variable: "THROUGHLINE_TLS_CLIENT_KEY",
    schema: text,
    absent: "none",
    help: "Private key of the client certificate, PEM",
  }),
  keyFile: optionalSetting({
    flag: "key-file",
    argument: "file",
    variable: "THROUGHLINE_KEY_FILE",
    schema: text,
    absent: "none is sent",
    help: "File that holds the caller's key",
  }),
};
