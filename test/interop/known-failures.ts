/** A case that fails for a known reason. */
export interface KnownFailure {
  /** Name of the part. */
  readonly part: string;
  /** Name of the case. */
  readonly name: string;
  readonly reason: string;
}

/** All cases that may fail. One that passes has to leave this list. */
export const knownFailures: readonly KnownFailure[] = [
  {
    part: "h2spec over h2c",
    name: "http2/3.5: Sends invalid connection preface",
    reason:
      "The port also serves HTTP/1.1, so bytes that are no HTTP/2 preface go to the HTTP/1.1 parser. It answers 400 and closes, as RFC 9112 §2.2 asks; h2spec accepts no bytes before the close. Over TLS, where ALPN decides, the case passes.",
  },
];
