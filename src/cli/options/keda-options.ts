import { flag, option } from "./option.js";
import { port } from "./values.js";

/** KEDA's external scaler of a pipeline. */
export const kedaOptions = {
  kedaPort: option(
    "--keda-port <port>",
    "Port at which KEDA asks for the waiting and running jobs and calls of an app; 0 takes a free one, which the log names",
    { env: "THROUGHLINE_KEDA_PORT", parse: port, absent: "none" },
  ),
  kedaInsecureOpen: flag(
    "--keda-insecure-open",
    "Allow anonymous clients at --keda-port, also beyond loopback: KEDA can send a client certificate, and no key",
    "THROUGHLINE_KEDA_INSECURE_OPEN",
  ),
};
