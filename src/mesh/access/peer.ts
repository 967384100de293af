import type { X509Certificate } from "node:crypto";
import { TLSSocket } from "node:tls";
import type { NodeRequest } from "../port/node-handler.js";

/** Address and certificate names of the client of a connection. */
export interface Peer {
  /** IP address; undefined once the connection is closed. */
  readonly address: string | undefined;
  /**
   * Names in the client's certificate, in its order: `uri:spiffe://mesh/worker`, `dns:worker.example`, `email:…`, `ip:…`, and last the
   * common name, `cn:worker`. Empty without a valid certificate.
   */
  readonly certificateNames: readonly string[];
}

/** Names by connection, because parsing a certificate costs more than a small request. */
const namesByConnection = new WeakMap<object, readonly string[]>();

/** Return the peer of a request. */
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
  // An HTTP/2 request's socket is a proxy, which passes instanceof too.
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

/** Return all names of a certificate; see {@link Peer.certificateNames}. */
export function certificateNames(certificate: X509Certificate): string[] {
  const names = alternativeNames(certificate.subjectAltName ?? "");
  const common: unknown = certificate.toLegacyObject().subject?.CN;
  return typeof common === "string" ? [...names, `cn:${common}`] : names;
}

/**
 * Parse Node's text: names separated by commas, an ambiguous one as a JSON string. Returns no names if the text is malformed.
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
