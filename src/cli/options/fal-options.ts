import { flag, Invalid, option } from "./option.js";
import { hosts } from "./values.js";

const variable = "THROUGHLINE_FAL";
const help = "Serve the API of fal's clients: queue, runs, streams and proxy";

/** fal's API on a pipeline. */
export const falOptions = {
  fal: flag("--fal", `${help}; needs --jobs`, variable),
  falRunHost: option(
    "--fal-run-host <host>",
    "Host name, with a port unless it is the scheme's, at which POST /{owner}/{app} runs instead of submitting to the queue",
    {
      env: "THROUGHLINE_FAL_RUN_HOST",
      parse: (text) => {
        const parsed = hosts(text);
        return parsed instanceof Invalid || parsed.length !== 1
          ? new Invalid("must be a host name in lower case, such as fal.example.com or fal.example.com:8443")
          : text;
      },
      absent: "none: paths below /fal/run run",
    },
  ),
};

/** fal's API of `dev`. */
export const devFalOptions = {
  fal: flag("--fal", help, variable, true),
  tlsSelfSigned: flag(
    "--tls-self-signed",
    "Serve TLS on the pipeline's port too, with a certificate for localhost that is made once, beside the jobs",
    "THROUGHLINE_TLS_SELF_SIGNED",
  ),
};
