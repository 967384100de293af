import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { StudioService } from "../gen/throughline/studio/v1/studio_pb.js";

/** A typed client of a collector's StudioService. */
export interface CollectorClient {
  readonly studio: Client<typeof StudioService>;
  /** Lets go of the connection, whatever runs over it. */
  close(): void;
}

/** No more than a trace can hold, by the collector's own limit. */
const maxMessageBytes = 16 * 1024 * 1024;

/** A stream may be still for long: pings tell whether the other end is there. */
const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 5_000 };

/**
 * A client over one HTTP/2 connection, which is made when it is first needed, and anew after it was lost.
 *
 * @param url base URL of the collector, http or https.
 */
export function createCollectorClient(url: string): CollectorClient {
  const sessionManager = new Http2SessionManager(url, pings);
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "2",
    sessionManager,
    readMaxBytes: maxMessageBytes,
  });
  return { studio: createClient(StudioService, transport), close: () => sessionManager.abort() };
}
