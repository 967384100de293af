/** Limits of a port. The defaults suit a service without a proxy in front. */
export interface ListenLimits {
  /** Maximum size of a request's header fields, in bytes; above: HTTP/1.1 431, HTTP/2 stream reset. Default: 16,384. */
  readonly maxHeaderBytes?: number;
  /** Maximum length of a request's path and query, in bytes; above: 414. Default: 4,096. */
  readonly maxUrlBytes?: number;
  /** Time limit for the header fields of an HTTP/1.1 request, in milliseconds; then 408. Default: 10,000. */
  readonly headersTimeoutMs?: number;
  /** Time limit for a complete HTTP/1.1 request, in milliseconds; then 408. Default: 60,000. */
  readonly requestTimeoutMs?: number;
  /**
   * Idle time after which an HTTP/1.1 connection is closed, in milliseconds. Keep it above the 60 s of load balancers and nginx, or they send
   * requests into a closed connection. Default: 75,000.
   */
  readonly keepAliveTimeoutMs?: number;
  /**
   * Time limit without progress for a client that does not read its response, in milliseconds. Then the HTTP/1.1 connection is closed, or
   * the HTTP/2 stream is reset. Default: 60,000.
   */
  readonly writeTimeoutMs?: number;
  /**
   * Time in which an HTTP/1.1 connection that is to be closed reads on, if it was answered before its request's body has arrived, in
   * milliseconds. Clients that only send would else miss the answer. Default: 5,000.
   */
  readonly lingerMs?: number;
  /** Bytes that such a connection reads at most before it is closed. Default: 67,108,864. */
  readonly lingerBytes?: number;
  /** Maximum pipelined requests on an HTTP/1.1 connection; above: 503. Default: 32. */
  readonly maxPipelinedRequests?: number;
  /** Idle time after which an HTTP/2 connection gets a GOAWAY, in milliseconds. Default: 1,800,000. */
  readonly idleSessionTimeoutMs?: number;
  /** Silence after which an HTTP/2 connection gets a PING, in milliseconds. Default: 5,000. */
  readonly keepaliveTimeMs?: number;
  /** Time limit for the PING's acknowledgement, in milliseconds; then the connection is closed. Default: 20,000. */
  readonly keepaliveTimeoutMs?: number;
  /** Maximum concurrent streams on an HTTP/2 connection. Default: 256. */
  readonly maxConcurrentStreams?: number;
  /** Time limit for protocol detection, TLS handshake included, in milliseconds. Default: 10,000. */
  readonly prefaceTimeoutMs?: number;
  /** Maximum open connections; more are closed on arrival. Default: 4,096. */
  readonly maxConnections?: number;
  /** Maximum open connections from one IPv4 address or IPv6 /64 network; more are closed on arrival. Default: 1,024. */
  readonly maxConnectionsPerAddress?: number;
}

/** Default limits. */
export const defaultListenLimits: Required<ListenLimits> = {
  maxHeaderBytes: 16_384,
  maxUrlBytes: 4_096,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
  writeTimeoutMs: 60_000,
  lingerMs: 5_000,
  lingerBytes: 67_108_864,
  maxPipelinedRequests: 32,
  idleSessionTimeoutMs: 1_800_000,
  keepaliveTimeMs: 5_000,
  keepaliveTimeoutMs: 20_000,
  maxConcurrentStreams: 256,
  prefaceTimeoutMs: 10_000,
  maxConnections: 4_096,
  maxConnectionsPerAddress: 1_024,
};

/** Fill in the defaults. @throws RangeError that names a limit which is not a positive whole number. */
export function resolveListenLimits(limits: ListenLimits): Required<ListenLimits> {
  const read = (name: keyof ListenLimits): number => {
    const value = limits[name] ?? defaultListenLimits[name];
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new RangeError(`${name} must be a positive whole number, not ${value}`);
    }
    return value;
  };
  return {
    maxHeaderBytes: read("maxHeaderBytes"),
    maxUrlBytes: read("maxUrlBytes"),
    headersTimeoutMs: read("headersTimeoutMs"),
    requestTimeoutMs: read("requestTimeoutMs"),
    keepAliveTimeoutMs: read("keepAliveTimeoutMs"),
    writeTimeoutMs: read("writeTimeoutMs"),
    lingerMs: read("lingerMs"),
    lingerBytes: read("lingerBytes"),
    maxPipelinedRequests: read("maxPipelinedRequests"),
    idleSessionTimeoutMs: read("idleSessionTimeoutMs"),
    keepaliveTimeMs: read("keepaliveTimeMs"),
    keepaliveTimeoutMs: read("keepaliveTimeoutMs"),
    maxConcurrentStreams: read("maxConcurrentStreams"),
    prefaceTimeoutMs: read("prefaceTimeoutMs"),
    maxConnections: read("maxConnections"),
    maxConnectionsPerAddress: read("maxConnectionsPerAddress"),
  };
}
