/** A message as JSON, or as proto-loader gives it: names of the `.proto` files. */
export type Message = Readonly<Record<string, unknown>>;

/** How a call is made. */
export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** Deadline, in milliseconds from now. */
  readonly timeoutMs?: number;
}

/** A client of a foreign implementation. */
export interface Client {
  /** Protocol and program. */
  readonly name: string;
  /** Calls a method such as `throughline.v1.ImagePipelineService/Generate`. @throws CallFailure */
  unary(path: string, request: object, options?: CallOptions): Promise<Message>;
  /** Yields the responses as they arrive. @throws CallFailure */
  stream(path: string, request: object, options?: CallOptions): AsyncIterable<Message>;
  close(): void;
}

/** What a call failed with. */
export class CallFailure extends Error {
  override readonly name = "CallFailure";
  /** Name of the gRPC status, such as `INVALID_ARGUMENT`. */
  readonly code: string;
  /** Rules that `buf.validate.Violations` among the details name. */
  readonly rules: readonly string[];

  constructor(code: string, message: string, rules: readonly string[] = []) {
    super(`${code}: ${message}`);
    this.code = code;
    this.rules = rules;
  }
}

/** Where a client connects to. */
export interface Server {
  readonly port: number;
  /** Certificate of the authority, PEM. */
  readonly ca: string;
  /** The same as a file. */
  readonly caFile: string;
}

/** gRPC's code for an HTTP status of something that is no gRPC server. */
export function codeOfHttpStatus(status: number): string {
  return (
    new Map([
      [400, "INTERNAL"],
      [401, "UNAUTHENTICATED"],
      [403, "PERMISSION_DENIED"],
      [404, "UNIMPLEMENTED"],
      ...[429, 502, 503, 504].map((each) => [each, "UNAVAILABLE"] as const),
    ]).get(status) ?? "UNKNOWN"
  );
}
