/** Limits of a port. Each has a default that fits a service behind no proxy. */
export interface ListenLimits {
  /** Size of a request's header fields, in bytes. HTTP/1.1 answers 431 above it, HTTP/2 rejects the stream. Default: 16,384. */
  readonly maxHeaderBytes?: number;
  /** Length of a request's path with its query, in bytes; 414 above it. Default: 4,096. */
  readonly maxUrlBytes?: number;
  /** Time for an HTTP/1.1 client to send its header fields, in milliseconds; 408 after it. Default: 10,000. */
  readonly headersTimeoutMs?: number;
  /** Time for an HTTP/1.1 client to send a whole request, in milliseconds; 408 after it. Default: 60,000. */
  readonly requestTimeoutMs?: number;
  /**
   * How long an HTTP/1.1 connection may stay open without a request, in milliseconds. Longer than the 60 s of load balancers and nginx:
   * where the server closes first, they send requests into a connection that is gone. Default: 75,000.
   */
  readonly keepAliveTimeoutMs?: number;
  /**
   * How long an answer may lie ready without its client reading any of it, in milliseconds. The HTTP/1.1 connection is cut, the HTTP/2
   * stream is reset beside others that move. Default: 60,000.
   */
  readonly writeTimeoutMs?: number;
  /** Requests that an HTTP/1.1 client may send without waiting for answers; 503 above it. Default: 32. */
  readonly maxPipelinedRequests?: number;
  /** How long an HTTP/2 connection may stay open without a stream, in milliseconds; it gets a GOAWAY. Default: 1,800,000. */
  readonly idleSessionTimeoutMs?: number;
  /** An HTTP/2 connection that is silent for so long gets a PING, in milliseconds. Default: 5,000. */
  readonly keepaliveTimeMs?: number;
  /** An HTTP/2 connection that does not answer a PING for so long is cut, in milliseconds. Default: 20,000. */
  readonly keepaliveTimeoutMs?: number;
  /** Streams that one HTTP/2 connection may have open at once. Default: 256. */
  readonly maxConcurrentStreams?: number;
  /** Time for a new connection to show which protocol it speaks, the TLS handshake included, in milliseconds. Default: 10,000. */
  readonly prefaceTimeoutMs?: number;
  /** Connections open at once; more are closed as they come. Default: 4,096. */
  readonly maxConnections?: number;
  /** Connections open at once from one IPv4 address or one IPv6 /64 network; more are closed as they come. Default: 1,024. */
  readonly maxConnectionsPerAddress?: number;
}

/** What holds where nothing is said. */
export const defaultListenLimits: Required<ListenLimits> = {
  maxHeaderBytes: 16_384,
  maxUrlBytes: 4_096,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
  writeTimeoutMs: 60_000,
  maxPipelinedRequests: 32,
  idleSessionTimeoutMs: 1_800_000,
  keepaliveTimeMs: 5_000,
  keepaliveTimeoutMs: 20_000,
  maxConcurrentStreams: 256,
  prefaceTimeoutMs: 10_000,
  maxConnections: 4_096,
  maxConnectionsPerAddress: 1_024,
};

/** Fills in the defaults. Throws a RangeError naming the limit that is not a positive whole number. */
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
