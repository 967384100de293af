import type { X509Certificate } from "node:crypto";
import { TLSSocket } from "node:tls";
import type { NodeRequest } from "../port/node-handler.js";

/** Who is at the other end of a connection, as far as the connection itself tells. */
export interface Peer {
  /** IP address; undefined once the connection is gone. */
  readonly address: string | undefined;
  /**
   * Names in the client's certificate, in its order: `uri:spiffe://mesh/worker`, `dns:worker.example`, `email:…`, `ip:…`, and last the
   * common name, `cn:worker`. Empty without a certificate that holds before the server's authorities.
   */
  readonly certificateNames: readonly string[];
}

/** Names of each connection, because a certificate costs more to read than a small request. */
const namesByConnection = new WeakMap<object, readonly string[]>();

/** Reads who sends a request. */
export function peerOf(request: NodeRequest): Peer {
  const { socket } = request;
  const connection = "stream" in request ? request.stream.session : socket;
  const known = connection && namesByConnection.get(connection);
  const certificateNames = known ?? namesOf(socket);
  if (connection !== undefined && known === undefined) {
    namesByConnection.set(connection, certificateNames);
  }
  return { address: socket.remoteAddress, certificateNames };
}

function namesOf(socket: unknown): readonly string[] {
  // An HTTP/2 request's socket is a proxy of the real one, which is an instance all the same.
  if (!(socket instanceof TLSSocket) || !socket.authorized) {
    return [];
  }
  const certificate = socket.getPeerX509Certificate();
  return certificate === undefined ? [] : certificateNames(certificate);
}

const kinds = new Map([
  ["URI", "uri"],
  ["DNS", "dns"],
  ["email", "email"],
  ["IP Address", "ip"],
]);

/** All names of a certificate; see {@link Peer.certificateNames}. */
export function certificateNames(certificate: X509Certificate): string[] {
  const names = alternativeNames(certificate.subjectAltName ?? "");
  const common: unknown = certificate.toLegacyObject().subject?.CN;
  return typeof common === "string" ? [...names, `cn:${common}`] : names;
}

/**
 * Node writes the names with commas between them, and one that could be taken for two as a JSON string. Where the text is not of that
 * form, no name is believed.
 */
function alternativeNames(text: string): string[] {
  const entry = /(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^",]*)/y;
  const names: string[] = [];
  while (entry.lastIndex < text.length) {
    const [, kind = "", value = ""] = entry.exec(text) ?? [];
    if (kind === "") {
      return [];
    }
    const prefix = kinds.get(kind);
    if (prefix !== undefined) {
      names.push(`${prefix}:${value.startsWith('"') ? JSON.parse(value) : value}`);
    }
  }
  return names;
}
