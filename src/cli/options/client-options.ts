import { schedulersByName } from "../../client/scheduler-names.js";
import { requestLimits } from "../../request-limits.js";
import { flag, option } from "./option.js";
import { anyText, decimalNumber, httpUrl, loras, nonEmpty, oneOf, seed, wholeNumber } from "./values.js";

const schedulerNames = [...schedulersByName.keys()];

/** Base URL of a pipeline on this machine, unless another is configured. */
export const defaultServerUrl = "http://127.0.0.1:8080";

export const defaultCollectorUrl = "http://127.0.0.1:4317";

const collector = { env: "THROUGHLINE_COLLECTOR", parse: httpUrl } as const;

export const collectorOption = option("--collector <url>", "Base URL of the local collector", {
  ...collector,
  default: defaultCollectorUrl,
});

export const optionalCollectorOption = option(
  "--collector <url>",
  "Base URL of a local collector from which the trace is read; with --json the output then contains its spans",
  { ...collector, absent: `${defaultCollectorUrl} if the pipeline is on this machine, else none` },
);

export const jsonOption = flag("--json", "Print one JSON object and nothing else");
export const quietOption = flag("--quiet", "Show neither progress nor an inline image");

/** Credentials of a command for a server. */
export const accessOptions = {
  tlsCa: option("--tls-ca <file>", "Certificate authorities of the https:// server's certificate, PEM", {
    env: "THROUGHLINE_TLS_CA",
    parse: nonEmpty,
    absent: "Node's own",
  }),
  tlsCert: option("--tls-client-cert <file>", "Client certificate for the server, PEM", {
    env: "THROUGHLINE_TLS_CLIENT_CERT",
    parse: nonEmpty,
    absent: "none",
  }),
  tlsKey: option("--tls-client-key <file>", "Private key of the client certificate, PEM", {
    env: "THROUGHLINE_TLS_CLIENT_KEY",
    parse: nonEmpty,
    absent: "none",
  }),
  keyFile: option("--key-file <file>", "File with the caller's key", {
    env: "THROUGHLINE_KEY_FILE",
    parse: nonEmpty,
    absent: "none",
  }),
};

const { side: sides, steps, guidance, quality, clipSkip, guidanceRescale, strength } = requestLimits;
const side = wholeNumber(sides.min, sides.max, sides.step);

/** LoRAs of a request. Not in `requestOptions`: `demo` starts a worker, whose flag of that name has files. */
export const lorasOption = option(
  "--lora <name[:scale]>",
  "LoRA of the worker to apply, with a scale from -10 to 10 instead of the worker's; the flag may be repeated, up to 8 times",
  { parse: loras, repeatable: true, absent: "none" },
);

/** Not in `requestOptions`: `demo` has a prompt of its own. */
export const settingsFromOption = option(
  "--settings-from <file>",
  "PNG image of a worker with --image-metadata: its prompt and settings apply where no flag says otherwise",
  { parse: nonEmpty, absent: "none" },
);

/** What a request for an image takes besides its prompt: the same for `demo` and `generate`. */
export const requestOptions = {
  out: option(
    "--out <file>",
    "File for the image, replaced if it exists; - for stdout. Its extension sets the format",
    {
      parse: nonEmpty,
      absent: "a name made from the prompt, in the working folder",
    },
  ),
  width: option("--width <pixels>", "Width in pixels, 64 to 2048, a multiple of 8; each model has its own range", {
    parse: side,
    absent: "the model's own",
  }),
  height: option("--height <pixels>", "Height in pixels, 64 to 2048, a multiple of 8; each model has its own range", {
    parse: side,
    absent: "the model's own",
  }),
  seed: option("--seed <number>", "Seed of the noise, 0 to 4294967295; the same seed generates the same image", {
    parse: seed,
    absent: "random",
  }),
  steps: option("--steps <number>", "Denoising steps, 1 to 150", {
    parse: wholeNumber(steps.min, steps.max),
    absent: "the model's own",
  }),
  guidance: option("--guidance <scale>", "Guidance scale, 0 to 30: how strictly the image follows the prompt", {
    parse: decimalNumber(guidance.min, guidance.max),
    absent: "the model's own",
  }),
  negative: option("--negative <text>", "What the image should not show", { parse: anyText, absent: "nothing" }),
  scheduler: option(
    "--scheduler <name>",
    `Sampling algorithm: ${schedulerNames.join(", ").replace(/, ([^,]*)$/, " or $1")}`,
    {
      ...oneOf(...schedulerNames),
      absent: "the model's own",
    },
  ),
  clipSkip: option("--clip-skip <layers>", "Layers to skip at the end of both text encoders, 0 to 11", {
    parse: wholeNumber(clipSkip.min, clipSkip.max),
    absent: "0",
  }),
  guidanceRescale: option(
    "--guidance-rescale <number>",
    "Rescales the guided prediction, 0 to 1, against overexposure at high guidance scales",
    { parse: decimalNumber(guidanceRescale.min, guidanceRescale.max), absent: "0" },
  ),
  initImage: option(
    "--init-image <file>",
    "Image to start from: PNG, JPEG or WebP, up to 8 MiB and 2048 pixels a side, resized and cropped to the width and height",
    { parse: nonEmpty, absent: "none" },
  ),
  strength: option("--strength <number>", "How far the result may leave --init-image, 0 to 1", {
    parse: decimalNumber(strength.min, strength.max),
    absent: "0.3",
  }),
  format: option("--format <name>", "Encoding of the image: png, jpeg or webp", {
    ...oneOf("png", "jpeg", "webp"),
    absent: "by the extension of --out, else png",
  }),
  quality: option("--quality <number>", "Quality of JPEG and WebP, 1 to 100; no effect on PNG", {
    parse: wholeNumber(quality.min, quality.max),
    absent: "90",
  }),
  previewInterval: option(
    "--preview-interval <steps>",
    "Steps between two small previews, 1 to 150, written beside the image if the model has previews",
    { parse: wholeNumber(1, steps.max), absent: "no previews" },
  ),
  inline: option(
    "--inline <protocol>",
    "Show the image on the terminal with the protocol of kitty or iterm2; auto where the terminal is known to support one, or never",
    { env: "THROUGHLINE_INLINE", ...oneOf("auto", "kitty", "iterm2", "never"), default: "auto" },
  ),
};
