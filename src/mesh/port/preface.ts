import type { Socket } from "node:net";

/** Protocol of a connection. */
export type WireProtocol = "http1" | "http2";

/** Connection preface of HTTP/2 clients (RFC 9113 §3.4). */
const http2Preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Options of {@link readPreface}. */
export interface ReadPrefaceOptions {
  /** Time limit for the first bytes, in milliseconds; then the socket is closed. */
  readonly timeoutMs: number;
  /** Called at most once, with a paused socket and all bytes unread. */
  readonly onProtocol: (protocol: WireProtocol) => void;
}

/**
 * Detect the protocol of a cleartext connection by its first bytes: HTTP/2 if and only if they are the complete HTTP/2 preface.
 *
 * Everything else, a TLS hello included, goes to the HTTP/1 parser, which answers 400 to malformed requests. A prefix of the preface is
 * undetermined, because `P` may also start `POST`.
 */
export function readPreface(socket: Socket, options: ReadPrefaceOptions): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), options.timeoutMs);

  function onData(chunk: Buffer): void {
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, http2Preface.length);
    const isPrefix = seen.compare(http2Preface, 0, length, 0, length) === 0;
    if (isPrefix && length < http2Preface.length) {
      return;
    }
    release();
    socket.pause();
    socket.unshift(seen);
    options.onProtocol(isPrefix ? "http2" : "http1");
  }
  function onEnd(): void {
    socket.destroy();
  }
  function release(): void {
    clearTimeout(timer);
    socket.off("data", onData);
    socket.off("end", onEnd);
    socket.off("close", release);
  }
  socket.on("data", onData);
  socket.on("end", onEnd);
  socket.on("close", release);
}
