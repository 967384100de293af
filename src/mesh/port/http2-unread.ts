import { constants, type Http2ServerRequest } from "node:http2";

/** First wait for the end of a response to be sent, in milliseconds; each further one is twice as long. */
const firstWaitMs = 1;

/** Longest wait, in milliseconds: a client that does not read its socket holds the end of its response back for as long as it likes. */
const longestWaitMs = 1_000;

/**
 * Resets a stream with NO_ERROR whose response was sent before its request was read to the end, such as a request that is too large: the
 * client may stop sending (RFC 9113 §8.1). Node would keep the stream, and what it has buffered of it, until somebody reads the rest.
 *
 * Call it when the stream's writable side has finished. Node then still has to send the frame with END_STREAM, and nghttp2 sends RST_STREAM
 * before frames that wait. A client that gets the reset first loses the response, so the reset waits until the stream is closed locally.
 * No event reports that.
 */
export function endUnread(request: Http2ServerRequest): void {
  setImmediate(resetOnceSent, request, firstWaitMs);
}

function resetOnceSent(request: Http2ServerRequest, waitMs: number): void {
  const { stream } = request;
  if (request.readableEnded) {
    return;
  }
  if (!stream.closed) {
    if (stream.state.localClose !== 1) {
      // The connection's socket keeps the process running.
      setTimeout(resetOnceSent, waitMs, request, Math.min(2 * waitMs, longestWaitMs)).unref();
      return;
    }
    stream.close(constants.NGHTTP2_NO_ERROR);
  }
  request.resume();
}
