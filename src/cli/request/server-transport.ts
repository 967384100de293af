import { ConnectError, type Transport } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { printable } from "../../studio/trace-text.js";
import type { ServerAccess } from "../service/server-access.js";

export interface ServerTransportOptions {
  /** Base URL. */
  readonly server: string;
  /** @default none is needed */
  readonly access?: ServerAccess | undefined;
  /** Largest message that is read, in bytes. */
  readonly maxMessageBytes: number;
}

/** The way of a command's calls to a server. Not fetch: Node's gives up on a response that is silent for five minutes. */
export function createServerTransport({ server, access, maxMessageBytes }: ServerTransportOptions): Transport {
  return createConnectTransport({
    baseUrl: server,
    httpVersion: "1.1",
    readMaxBytes: maxMessageBytes,
    ...(access && { nodeOptions: access.tls, interceptors: access.interceptors }),
  });
}

/** Characters of a server's own words; enough for a list of what it would have taken. */
const maxMessageLength = 1000;

/** What a failed call to a server is told as. */
export function describeCallFailure(server: string, cause: unknown): string {
  const error = ConnectError.from(cause);
  const code = codeToString(error.code).toUpperCase();
  // TLS libraries speak in several lines.
  const message = printable(error.rawMessage.replaceAll(/\s+/g, " ").trim(), maxMessageLength);
  const said = `${code}: ${message === "" ? "no reason given" : message}`;
  return isSystemError(error.cause) ? `cannot reach ${server}: ${said}` : `${server} answered ${said}`;
}

function isSystemError(cause: unknown): boolean {
  return cause instanceof Error && "syscall" in cause;
}
