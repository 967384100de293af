/**
 * Why a server rejected access:
 * - `no_credentials`: neither a key nor a client certificate;
 * - `unknown_credentials`: a key or a certificate of no known caller;
 * - `app_not_permitted`: the caller may not use the app;
 * - `registration_not_permitted`: the caller, a worker, may not register as a replica of the app, or not at its address;
 * - `rate_limit`, `concurrency_limit`: the caller is over a limit of its own;
 * - `foreign_host`: a web page or a host name that an unauthenticated server does not accept;
 * - `client_certificate`: the TLS handshake failed, because the client certificate is missing or not valid.
 */
export type RejectionReason =
  | "no_credentials"
  | "unknown_credentials"
  | "app_not_permitted"
  | "registration_not_permitted"
  | "rate_limit"
  | "concurrency_limit"
  | "foreign_host"
  | "client_certificate";

/** What a client asked for. Never text of a request. */
export interface AccessTarget {
  /** RPC: `throughline.v1.ImagePipelineService/Generate`. */
  readonly method?: string | undefined;
  /** Front of a request that is no RPC: `openai`. */
  readonly front?: string | undefined;
  /** Route of any other request, as the server names it: `/apps`. */
  readonly route?: string | undefined;
}

/** One rejected access. It contains no key and no text of a request. */
export interface AccessRejection extends AccessTarget {
  readonly reason: RejectionReason;
  /** Name of the caller, if it is known. */
  readonly caller?: string | undefined;
  /** First name in a valid client certificate of no known caller. */
  readonly certificate?: string | undefined;
  /** IP address of the connection's other end. */
  readonly peer?: string | undefined;
  /** Node's code of the problem with a client certificate, such as `CERT_HAS_EXPIRED`. */
  readonly problem?: string | undefined;
}

/** Receives each rejected access, for a log. */
export type OnAccessRejected = (rejection: AccessRejection) => void;
