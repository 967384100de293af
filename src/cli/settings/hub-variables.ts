import { homedir } from "node:os";
import { join } from "node:path";
import type { FetchModelOptions } from "../../hub/fetch-model.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import { usageError } from "../command-error.js";
import { httpUrl } from "./setting-schemas.js";

/** Variables of Hugging Face's own tools that mean the same here, with one line of help each. */
export const hubVariables = {
  HF_HOME: "folder of Hugging Face's tools; models are kept in `hub` below it; default `~/.cache/huggingface`",
  HF_HUB_CACHE: "folder in which models are kept, in place of `hub` below `HF_HOME`",
  HF_ENDPOINT: "base URL of the Hub; default `https://huggingface.co`",
  HF_TOKEN: "access token for private and gated models; it is sent to the Hub alone",
  HF_HUB_OFFLINE: "`1` or `true` takes what is kept and uses no network",
} as const;

/**
 * What the environment says about the Hub, as Python's huggingface_hub reads it.
 *
 * @throws CommandError when HF_ENDPOINT is no URL.
 */
export function readHubVariables(
  environment: Environment,
): Pick<FetchModelOptions, "cacheFolder" | "endpoint" | "token" | "offline"> {
  const read = (name: string): string | undefined => environment[name]?.trim() || undefined;
  const home = read("HF_HOME") ?? join(read("XDG_CACHE_HOME") ?? "~/.cache", "huggingface");
  const cache = read("HF_HUB_CACHE") ?? read("HUGGINGFACE_HUB_CACHE") ?? join(home, "hub");
  const endpoint = read("HF_ENDPOINT")?.replace(/\/+$/, "");
  if (endpoint !== undefined && !httpUrl.safeParse(endpoint).success) {
    throw usageError(`HF_ENDPOINT must be an http:// or https:// URL, got ${JSON.stringify(endpoint)}`);
  }
  return {
    cacheFolder: expandHome(cache),
    ...(endpoint !== undefined && { endpoint }),
    token: read("HF_TOKEN"),
    offline: /^(?:1|on|yes|true)$/i.test(read("HF_HUB_OFFLINE") ?? ""),
  };
}

/** A path in which `~` may stand for the user's own folder, where no shell has read it. */
export function expandHome(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}
