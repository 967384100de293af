import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { type Code, ConnectError } from "@connectrpc/connect";

/** A message to attach to an error, with its type: what `google.rpc.Status.details` carries. */
export interface ErrorDetail<Desc extends DescMessage = DescMessage> {
  readonly desc: Desc;
  readonly value: MessageInitShape<Desc>;
}

/** What an error says to the client (code, message, details, metadata), and what only the log may see (cause). */
export interface ConnectErrorInit {
  readonly code: Code;
  /** A plain sentence for callers: no prompt, no address, no stack. */
  readonly message: string;
  readonly details?: readonly ErrorDetail[];
  /** Sent as response headers or trailers. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Never sent; kept for the log. */
  readonly cause?: unknown;
}

/** Makes a ConnectError from named parts, because the constructor takes five positional ones. */
export function createConnectError(init: ConnectErrorInit): ConnectError {
  return new ConnectError(init.message, init.code, init.metadata, [...(init.details ?? [])], init.cause);
}
