import { fromBinary } from "@bufbuild/protobuf";
import { type Violations, ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Status } from "../../gen/google/rpc/status_pb.js";
import { retryDelayMsOf } from "../../mesh/errors/errors.js";
import { locationOf, requestIdLocation } from "./field-locations.js";

/** A wrong field of a request, as FastAPI reports it. */
export interface FieldError {
  /** `["body", "image_size", "width"]`. Texts only: the AI SDK accepts no numbers. */
  readonly loc: readonly string[];
  readonly msg: string;
  readonly type: string;
}

/** Error with its HTTP status. Its message is for the caller. */
export class FalError extends Error {
  override readonly name = "FalError";
  readonly status: number;
  readonly detail: string | readonly FieldError[];
  /** fal's machine-readable reason, such as `request_timeout`. Undefined for wrong fields. */
  readonly type: string | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    detail: string | readonly FieldError[],
    type?: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(typeof detail === "string" ? detail : detail.map(({ msg }) => msg).join("; "));
    this.status = status;
    this.detail = detail;
    this.type = type;
    this.headers = headers;
  }

  /** Body of the answer. `message` is what clients show that do not read `detail`, such as the AI SDK. */
  get body(): object {
    return this.type === undefined
      ? { detail: this.detail }
      : { detail: this.detail, error_type: this.type, message: this.message };
  }
}

/** 422 for fields of a request. */
export function invalidFields(fields: readonly FieldError[]): FalError {
  return new FalError(422, fields);
}

/** 404 for a request id that is unknown to this caller. */
export function requestNotFound(): FalError {
  return new FalError(
    404,
    "no such request of this caller: it was deleted or has expired, or the id is wrong",
    "not_found",
  );
}

interface Kind {
  readonly status: number;
  readonly type: string;
}

const internalError: Kind = { status: 500, type: "internal_error" };

/** HTTP status and fal's reason by status code. */
const kinds: Readonly<Partial<Record<Code, Kind>>> = {
  [Code.Unauthenticated]: { status: 401, type: "unauthorized" },
  [Code.PermissionDenied]: { status: 403, type: "forbidden" },
  [Code.NotFound]: { status: 404, type: "not_found" },
  [Code.Canceled]: { status: 499, type: "client_cancelled" },
  [Code.Unavailable]: { status: 503, type: "unavailable" },
  [Code.DeadlineExceeded]: { status: 504, type: "request_timeout" },
};

/**
 * Translate an RPC's error. Anything else is 500 without its message, which may contain anything.
 *
 * @param header of the request, some of which are fields of the RPC.
 */
export function toFalError(thrown: unknown, header: Headers): FalError {
  if (thrown instanceof FalError) {
    return thrown;
  }
  if (!(thrown instanceof ConnectError)) {
    return new FalError(500, "internal error", internalError.type);
  }
  if (thrown.code === Code.AlreadyExists) {
    const msg = "another request of this caller has this id; choose a new one for a new request";
    return invalidFields([{ loc: requestIdLocation(header), msg, type: "value_error" }]);
  }
  if (thrown.code === Code.InvalidArgument) {
    return invalidFields(fieldErrorsOf(thrown.rawMessage, thrown.findDetails(ViolationsSchema), header));
  }
  const delayMs = retryDelayMsOf(thrown);
  const { status, type } = kindOf(thrown.code, delayMs);
  return new FalError(status, thrown.rawMessage, type, {
    ...(status === 401 && { "www-authenticate": "Key" }),
    ...(delayMs !== undefined && { "retry-after": String(Math.ceil(delayMs / 1000)) }),
  });
}

function kindOf(code: Code, delayMs: number | undefined): Kind {
  if (code === Code.ResourceExhausted) {
    // Without a delay, no retry can succeed.
    return delayMs === undefined ? { status: 413, type: "too_large" } : { status: 429, type: "rate_limited" };
  }
  return kinds[code] ?? internalError;
}

/**
 * Translate the error of a failed job. Its status is one that no client of fal retries, because the job's end is final.
 *
 * @param hasStarted whether an attempt began before the failure.
 */
export function failedJobError({ code, message, details }: Status, hasStarted: boolean): FalError {
  if (code === Code.InvalidArgument) {
    const violations = details
      .filter(({ typeUrl }) => typeUrl.endsWith("/buf.validate.Violations"))
      .map(({ value }) => fromBinary(ViolationsSchema, value));
    return invalidFields(fieldErrorsOf(message, violations, new Headers()));
  }
  if (code === Code.DeadlineExceeded) {
    const type = hasStarted ? "request_timeout" : "startup_timeout";
    return new FalError(504, message, type, { "x-fal-request-timeout-type": "user" });
  }
  return new FalError(500, message, code === Code.Unavailable ? "runner_server_error" : internalError.type);
}

/** Violated rules in the names of fal's parameters. */
function fieldErrorsOf(message: string, details: readonly Violations[], header: Headers): readonly FieldError[] {
  const fields = details.flatMap(({ violations }) =>
    violations.map((violation) => ({
      loc: locationOf(violation.field?.elements ?? [], header),
      msg: violation.message,
      type: "value_error",
    })),
  );
  return fields.length > 0 ? fields : [{ loc: ["body"], msg: message, type: "value_error" }];
}
