import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { precisions } from "../../engine/graph-files.js";
import type { FetchModelOptions } from "../../hub/fetch-model.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import { usageError } from "../errors.js";
import { loraOptions } from "./lora-options.js";
import { option } from "./option.js";
import { device, isHttpUrl, nonEmpty, oneOf, wholeNumber } from "./values.js";

/** Which model runs, and on what. */
export const modelOptions = {
  model: option(
    "--model <folder or owner/name>",
    "Folder of an SDXL model (safetensors or ONNX), a .safetensors checkpoint, or a model of the Hugging Face Hub: owner/name, @revision after it for one of its revisions, :file.safetensors for one of its files",
    { env: "THROUGHLINE_MODEL", parse: nonEmpty, absent: "the model in the package" },
  ),
  ...loraOptions,
  device: option(
    "--device <device>",
    "Device that runs the model: cpu, cuda, tensorrt, webgpu, coreml or dml, with :1 after cuda, tensorrt or dml for the second device; auto takes the first of cuda, dml, coreml, webgpu and cpu that works",
    { env: "THROUGHLINE_DEVICE", parse: device, default: "auto" },
  ),
  precision: option(
    "--precision <precision>",
    "Precision of the model: float32 keeps its weights in memory, float16 keeps half-precision weights in their files; auto takes half precision on a GPU, and on a CPU what suits the model and the memory. Of exported graphs, float16 takes model_fp16.onnx",
    { env: "THROUGHLINE_PRECISION", ...oneOf(...precisions), default: "auto" },
  ),
  threads: option(
    "--threads <number>",
    "CPU threads of the model, 0 to 1024; 0 takes one for each core, or as many as the control group's CPU quota",
    { env: "THROUGHLINE_THREADS", parse: wholeNumber(0, 1024), default: 0 },
  ),
};

/** Variables of Hugging Face's own tools with the same meaning here, with one line of help each. */
export const hubVariables = {
  HF_HOME:
    "folder of Hugging Face's tools; models are kept in `hub` below it; default `huggingface` in `XDG_CACHE_HOME`, or `~/.cache/huggingface`",
  HF_HUB_CACHE:
    "folder in which models are kept, instead of `hub` below `HF_HOME`; `HUGGINGFACE_HUB_CACHE` is its older name",
  HF_ENDPOINT: "base URL of the Hub; default `https://huggingface.co`",
  HF_TOKEN:
    "access token for private and gated models, sent to the Hub alone; default is `HUGGING_FACE_HUB_TOKEN`, then the token of `hf auth login`",
  HF_TOKEN_PATH: "file with the token of `hf auth login`; default `token` in `HF_HOME`",
  HF_HUB_OFFLINE: "`1`, `true`, `yes` or `on` takes what is cached and uses no network",
} as const;

/**
 * Settings of the Hub from the environment, as Python's huggingface_hub reads them.
 *
 * @throws CliError when HF_ENDPOINT is not a URL, when the token's file cannot be read, or when no home folder is known and HF_HOME is not set.
 */
export function readHubVariables(
  environment: Environment,
): Pick<FetchModelOptions, "cacheFolder" | "endpoint" | "token" | "offline"> {
  const read = (name: string): string | undefined => environment[name]?.trim() || undefined;
  const home = read("HF_HOME") ?? join(read("XDG_CACHE_HOME") ?? "~/.cache", "huggingface");
  const cache = read("HF_HUB_CACHE") ?? read("HUGGINGFACE_HUB_CACHE") ?? join(home, "hub");
  const endpoint = read("HF_ENDPOINT")?.replace(/\/+$/, "");
  if (endpoint !== undefined && !isHttpUrl(endpoint)) {
    throw usageError(`HF_ENDPOINT must be an http:// or https:// URL, got ${JSON.stringify(endpoint)}`);
  }
  return {
    cacheFolder: expandHome(cache),
    ...(endpoint !== undefined && { endpoint }),
    token:
      read("HF_TOKEN") ?? read("HUGGING_FACE_HUB_TOKEN") ?? readToken(read("HF_TOKEN_PATH") ?? join(home, "token")),
    offline: /^(?:1|on|yes|true)$/i.test(read("HF_HUB_OFFLINE") ?? ""),
  };
}

/** The token that `hf auth login` has written; undefined without a file, or with an empty one. */
function readToken(path: string): string | undefined {
  let file = path;
  try {
    file = expandHome(path);
  } catch {
    // A user without a home folder has never logged in.
    return undefined;
  }
  try {
    return readFileSync(file, "utf8").trim() || undefined;
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && (cause.code === "ENOENT" || cause.code === "ENOTDIR")) {
      return undefined;
    }
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw usageError(`cannot read the Hub's token (${reason}). Set HF_TOKEN, or HF_TOKEN_PATH to another file`, {
      cause,
    });
  }
}

/**
 * A path with the user's home folder in the place of a leading `~`, which no shell has expanded.
 *
 * @throws CliError when the user has no home folder.
 */
export function expandHome(path: string, findHome: () => string = homedir): string {
  if (path !== "~" && !path.startsWith("~/")) {
    return path;
  }
  try {
    return join(findHome(), path.slice(1));
  } catch (cause) {
    throw usageError(`cannot find ${path}: this user has no home folder. Set HF_HOME to a folder for models, or HOME`, {
      cause,
    });
  }
}
