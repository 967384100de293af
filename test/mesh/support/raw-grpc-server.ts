import * as http2 from "node:http2";
import type { TestContext } from "node:test";
import { listenOnLoopback } from "../../support/listen-on-loopback.js";

/** Answers one request of a raw gRPC server. */
export type Answer = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;

/** An HTTP/2 server without any of gRPC's code: it has no health service, and the test answers the calls. */
export async function serveRaw(t: Pick<TestContext, "after">, answer: Answer, options: http2.ServerOptions = {}) {
  const sessions: http2.ServerHttp2Session[] = [];
  const server = http2.createServer(options);
  let calls = 0;
  server.on("session", (session) => void sessions.push(session.on("error", () => {})));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {}).resume();
    if (headers[":path"] === "/grpc.health.v1.Health/Watch") {
      trailersOnly(stream, { "grpc-status": "12" });
      return;
    }
    calls++;
    answer(stream, headers);
  });
  const { port } = await listenOnLoopback(t, server);
  return {
    port,
    sessions,
    get calls() {
      return calls;
    },
  };
}

/** A gRPC answer of one HEADERS frame. */
export function trailersOnly(stream: http2.ServerHttp2Stream, fields: http2.OutgoingHttpHeaders): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc", ...fields }, { endStream: true });
}

/** A gRPC answer of HEADERS, enveloped messages and trailers. */
export function answerWith(
  stream: http2.ServerHttp2Stream,
  header: http2.OutgoingHttpHeaders,
  messages: readonly Buffer[],
  trailers: http2.OutgoingHttpHeaders,
): void {
  stream.respond({ ":status": 200, "content-type": "application/grpc", ...header }, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers(trailers));
  for (const message of messages) {
    stream.write(message);
  }
  stream.end();
}
