import type { ModelId } from "./model-id.js";

/** Sends a request, none of which has a body, and follows redirects unless `redirect` forbids it, as `fetch` does. */
export type SendRequest = (
  url: URL,
  request: {
    readonly method: string;
    readonly headers: Headers;
    readonly redirect: "follow" | "error" | "manual";
    readonly signal: AbortSignal | null;
  },
) => Promise<Response>;

/** How the Hub is reached. */
export interface HubFetchOptions {
  readonly model: ModelId;
  /** File that the requests are for; errors name it. */
  readonly file?: string;
  /** Base URL without a slash at its end. */
  readonly endpoint: string;
  /** Access token. It is sent to the endpoint alone. */
  readonly token: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** What sends the requests, through a proxy or not. @default fetch */
  readonly send?: SendRequest | undefined;
}

/**
 * A `fetch` for one model: it adds the token where it belongs, and rejects with a HubError for any status but success.
 * The Hub redirects to storage hosts, which must not see the token: `fetch` takes the header off a redirect to another origin.
 */
export function createHubFetch(options: HubFetchOptions): typeof fetch {
  const { endpoint, token, signal, send = fetch } = options;
  const { origin } = new URL(endpoint);
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = new Headers(init?.headers);
    // Ranges and sizes are of the file itself, not of some compressed form of it.
    headers.set("accept-encoding", "identity");
    if (token !== undefined && url.origin === origin) {
      headers.set("authorization", `Bearer ${token}`);
    }
    const { method = "GET", redirect = "follow" } = init ?? {};
    const response = await send(url, { method, headers, redirect, signal: signal ?? null }).catch((error: unknown) => {
      throw unreachable(options, error);
    });
    const wanted = headers.get("range");
    if (response.ok && (wanted === null || response.status === 206)) {
      return response;
    }
    await response.body?.cancel();
    throw response.ok || response.status === 416
      ? new HubError("unresumable", subjectOf(options), "the host does not send a part of a file")
      : rejection(response, options);
  };
}

/** Subject of an error: the model, and the file if known. */
export function subjectOf({ model, file }: Pick<HubFetchOptions, "model" | "file">): string {
  return file === undefined ? model.name : `${model.name}: ${file}`;
}

/** The connection failed: at its start, or in the middle of an answer. */
export function unreachable(options: HubFetchOptions, error: unknown): HubError {
  // fetch's own message is "fetch failed" or "terminated"; its cause has the system's message.
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const advice = "check the network and HF_ENDPOINT, and start again: the download continues";
  const problem = `the connection to ${options.endpoint} failed (${reason}); ${advice}`;
  return new HubError("unreachable", subjectOf(options), problem, { cause: error });
}

/** @see https://huggingface.co/docs/hub/api, whose X-Error-Code header distinguishes errors with the same status */
function rejection({ status, headers }: Response, options: HubFetchOptions): HubError {
  const { endpoint, token } = options;
  const { name, revision } = options.model;
  const subject = subjectOf(options);
  const code = headers.get("x-error-code");
  if (code === "GatedRepo") {
    const advice = `ask for access at ${endpoint}/${name}, and set HF_TOKEN to a token of the account that has it, or run "hf auth login"`;
    return new HubError("forbidden", subject, `it is gated; ${advice}`);
  }
  if (code === "RevisionNotFound") {
    return new HubError(
      "not-found",
      subject,
      `it has no revision ${revision}; leave @${revision} out, or name a branch`,
    );
  }
  if (status === 404 || (status === 401 && token === undefined)) {
    // Without a token, the Hub answers the same for a private repository and for none.
    const advice =
      token === undefined
        ? "check the id; if it is private, set HF_TOKEN or run `hf auth login`"
        : "check the id and HF_TOKEN";
    return new HubError("not-found", subject, `${endpoint} has no such model; ${advice}`);
  }
  if (status === 401 || status === 403) {
    const advice = "set HF_TOKEN to a token that may read it";
    return new HubError("forbidden", subject, `${endpoint} rejects it (status ${status}); ${advice}`);
  }
  const again = status === 429 || status >= 500;
  const advice = again ? "try again later" : "check HF_ENDPOINT";
  const kind = again ? "unreachable" : "not-found";
  return new HubError(kind, subject, `${endpoint} answers with status ${status}; ${advice}`);
}

/**
 * Reason that a model cannot be downloaded:
 * `not-found`: the Hub does not know it, or hides it; `forbidden`: it is gated, or the token is not accepted; `offline`: it is not in the
 * cache and the network is switched off; `unreachable`: the network or the Hub fails, and later it may work; `unresumable`: a download
 * cannot go on where it was cut; `corrupt`: bytes are not those that the Hub promised; `disk`: the cache cannot be written;
 * `unusable`: the repository has no SDXL model that the engine loads.
 */
export type HubErrorKind =
  | "not-found"
  | "forbidden"
  | "offline"
  | "unreachable"
  | "unresumable"
  | "corrupt"
  | "disk"
  | "unusable";

/** A model of the Hub cannot be downloaded. The message names the model, the file if known, and the remedy. */
export class HubError extends Error {
  override readonly name = "HubError";
  readonly kind: HubErrorKind;

  /**
   * @param subject the model's id, and the file in it where it is about one: `owner/name: unet/model.onnx`.
   * @param problem what is wrong and what to do about it, in one line.
   */
  constructor(kind: HubErrorKind, subject: string, problem: string, options?: ErrorOptions) {
    super(`model ${subject}: ${problem}`, options);
    this.kind = kind;
  }
}
