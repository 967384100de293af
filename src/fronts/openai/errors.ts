import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { retryDelayMsOf } from "../../mesh/errors/errors.js";
import type { NodeResponse } from "../../mesh/port/node-handler.js";
import { respondJson } from "../json-response.js";

/** Body of an error, as OpenAI's API sends it. */
export interface OpenAiErrorBody {
  readonly message: string;
  readonly type: string;
  /** Field of the request that is wrong. */
  readonly param: string | null;
  readonly code: string | null;
}

/** Error with its HTTP status. Its message is for the caller. */
export class OpenAiError extends Error {
  override readonly name = "OpenAiError";
  readonly status: number;
  readonly body: OpenAiErrorBody;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    body: Omit<OpenAiErrorBody, "param" | "code"> & Partial<OpenAiErrorBody>,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(body.message);
    this.status = status;
    this.body = { param: null, code: null, ...body };
    this.headers = headers;
  }
}

/** 400 for a field of the request. @param param `size`, or null for the whole body. */
export function invalidRequest(param: string | null, message: string, code = "invalid_value"): OpenAiError {
  return new OpenAiError(400, { message, type: "invalid_request_error", param, code });
}

/** Ids listed in an error, so that it stays short. */
const maxListed = 10;

/** 404 for a model that does not exist. @param ids of the models that the caller may use. */
export function modelNotFound(ids: readonly string[]): OpenAiError {
  const listed = ids.slice(0, maxListed).join(", ");
  const more = ids.length > maxListed ? ` and ${ids.length - maxListed} more` : "";
  const known = ids.length === 0 ? "there are no models" : `the models are: ${listed}${more}`;
  return new OpenAiError(404, {
    message: `the model does not exist; ${known}`,
    type: "invalid_request_error",
    param: "model",
    code: "model_not_found",
  });
}

/** Parameters of OpenAI's API, and of its extension, by the contract's fields. */
const params: Readonly<Record<string, string>> = {
  prompt: "prompt",
  worker_app: "model",
  "options.negative_prompt": "negative_prompt",
  "options.width": "size",
  "options.height": "size",
  "options.num_inference_steps": "num_inference_steps",
  "options.guidance_scale": "guidance_scale",
  "options.seed": "seed",
  "options.format": "output_format",
  "options.quality": "output_compression",
  "options.init_image": "image",
  "options.strength": "strength",
  "options.loras": "loras",
  "options.clip_skip": "clip_skip",
  "options.guidance_rescale": "guidance_rescale",
};

interface Kind {
  readonly status: number;
  readonly type: string;
  readonly code: string;
}

const serverError: Kind = { status: 500, type: "server_error", code: "internal_error" };

/** HTTP status, type and code by status code. OpenAI's clients retry 408, 409, 429 and those from 500. */
const kinds: Readonly<Partial<Record<Code, Kind>>> = {
  [Code.InvalidArgument]: { status: 400, type: "invalid_request_error", code: "invalid_value" },
  [Code.Unauthenticated]: { status: 401, type: "authentication_error", code: "invalid_api_key" },
  [Code.PermissionDenied]: { status: 403, type: "permission_error", code: "permission_denied" },
  [Code.NotFound]: { status: 404, type: "invalid_request_error", code: "model_not_found" },
  [Code.Canceled]: { status: 499, type: "invalid_request_error", code: "cancelled" },
  [Code.Unavailable]: { status: 503, type: "server_error", code: "unavailable" },
  [Code.DeadlineExceeded]: { status: 504, type: "server_error", code: "timeout" },
};
const rateLimited: Kind = { status: 429, type: "rate_limit_error", code: "rate_limit_exceeded" };
const tooLarge: Kind = { status: 413, type: "invalid_request_error", code: "request_too_large" };

/** Translate an RPC's error. Anything else is 500 without its message, which may contain anything. */
export function toOpenAiError(thrown: unknown): OpenAiError {
  if (thrown instanceof OpenAiError) {
    return thrown;
  }
  if (!(thrown instanceof ConnectError)) {
    return new OpenAiError(serverError.status, { ...serverError, message: "internal error" });
  }
  const delayMs = retryDelayMsOf(thrown);
  const { status, type, code } = kindOf(thrown, delayMs);
  const fields = violatedParams(thrown);
  const message = fields.length === 0 ? thrown.rawMessage : fields.map(({ text }) => text).join("; ");
  return new OpenAiError(
    status,
    { message, type, code, param: code === "model_not_found" ? "model" : (fields[0]?.param ?? null) },
    {
      ...(status === 401 && { "www-authenticate": "Bearer" }),
      // `retry-after-ms` is an extension of OpenAI's clients, which read it first.
      ...(delayMs !== undefined && {
        "retry-after": String(Math.ceil(delayMs / 1000)),
        "retry-after-ms": String(Math.ceil(delayMs)),
      }),
    },
  );
}

function kindOf({ code }: ConnectError, delayMs: number | undefined): Kind {
  if (code === Code.ResourceExhausted) {
    // Without a delay, no retry can succeed.
    return delayMs === undefined ? tooLarge : rateLimited;
  }
  return kinds[code] ?? serverError;
}

/** Violated rules in the parameters' names. */
function violatedParams(error: ConnectError): readonly { readonly param: string; readonly text: string }[] {
  return error
    .findDetails(ViolationsSchema)
    .flatMap(({ violations }) => violations)
    .map(({ field, message }) => {
      const path = (field?.elements ?? []).map(({ fieldName }) => fieldName).filter((name) => name !== "request");
      const [first = "", second] = path;
      const name = second === undefined ? first : `${first}.${second}`;
      const param = params[name] ?? name;
      const side = name.startsWith("options.") && param === "size" ? ` (${second})` : "";
      return { param, text: `${param}${side}: ${message}` };
    });
}

/** Send an error as JSON. */
export function respondError(response: NodeResponse, { status, body, headers }: OpenAiError): void {
  respondJson(response, status, { error: body }, headers);
}
