import * as net from "node:net";
import * as tls from "node:tls";
import type { Reloaded } from "../tls/reloaded-files.js";
import { material, type TlsMaterial } from "../tls/tls-material.js";
import { tlsPolicy } from "../tls/tls-policy.js";
import { type Acceptor, createCleartextAcceptor, type OnProtocol } from "./listen-acceptor.js";
import type { ListenLimits } from "./listen-limits.js";

/** TLS of a server. */
export interface ServerTls {
  /** Server certificate and key, and the authorities for client certificates. New connections use the current files. */
  readonly material: Reloaded<TlsMaterial>;
  /**
   * Client certificates: not requested, optional, or required. The latter two need authorities in `material`. An invalid certificate counts
   * as none. @default none
   */
  readonly clientCertificate?: "none" | "optional" | "required" | undefined;
  /** Whether the port accepts cleartext too; the first byte of a connection decides. For loopback. @default false */
  readonly isOptional?: boolean | undefined;
}

/** Receives a client whose required certificate is missing or not valid, with its IP address and Node's code of the problem. */
export type OnTlsRejected = (client: { readonly address: string | undefined; readonly problem: string }) => void;

/** Accept TLS connections. ALPN selects the protocol; HTTP/1.1 without ALPN. */
export function createTlsAcceptor(
  { material: files, clientCertificate = "none" }: ServerTls,
  limits: Required<ListenLimits>,
  onProtocol: OnProtocol,
  onRejected: OnTlsRejected = () => {},
): Acceptor {
  /** By the peer's address: a TLS socket has no other public link to its TCP connection. */
  const pending = new Map<string, net.Socket>();
  const server = tls.createServer({
    ...tlsPolicy,
    ...material(files.current),
    ALPNProtocols: ["h2", "http/1.1"],
    handshakeTimeout: limits.prefaceTimeoutMs,
    requestCert: clientCertificate !== "none",
    rejectUnauthorized: clientCertificate === "required",
    noDelay: true,
    allowHalfOpen: true,
  });
  server.on("connection", (socket: net.Socket) => {
    const peer = addressOf(socket);
    pending.set(peer, socket);
    socket.once("close", () => pending.delete(peer));
    socket.on("error", () => socket.destroy());
  });
  server.on("secureConnection", (socket) => {
    pending.delete(addressOf(socket));
    socket.on("error", () => socket.destroy());
    onProtocol(socket, socket.alpnProtocol === "h2" ? "http2" : "http1");
  });
  server.on("tlsClientError", (error, socket) => {
    const problem = clientProblem(error, socket);
    if (clientCertificate === "required" && problem !== undefined) {
      onRejected({ address: socket.remoteAddress ?? connectionOf(socket)?.remoteAddress, problem });
    }
    socket.destroy();
  });
  // Open connections keep their context.
  files.onChange((changed) => server.setSecureContext({ ...tlsPolicy, ...material(changed) }));
  return {
    server,
    scheme: "https",
    closePending() {
      for (const socket of pending.values()) {
        socket.destroy();
      }
    },
  };
}

/** Problem with the client's certificate; undefined if the handshake failed for another reason. */
function clientProblem(error: Error, { authorizationError }: tls.TLSSocket): string | undefined {
  if ("code" in error && error.code === "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE") {
    return "NO_CERTIFICATE";
  }
  // A text, whatever its type says: null for no problem.
  const problem: unknown = authorizationError;
  return typeof problem === "string" ? problem : undefined;
}

/** TCP connection of a TLS socket that Node has closed, and which then has no address itself. Undefined in a Node without this property. */
function connectionOf(socket: tls.TLSSocket): net.Socket | undefined {
  const parent: unknown = Reflect.get(socket, "_parent");
  return parent instanceof net.Socket ? parent : undefined;
}

/** First byte of a TLS connection: a record of the handshake (RFC 8446 §5.1). No HTTP request begins with it. */
const handshake = 0x16;

/** Accept TLS and cleartext connections on one port. */
export function createEitherAcceptor(
  serverTls: ServerTls,
  limits: Required<ListenLimits>,
  onProtocol: OnProtocol,
  onRejected?: OnTlsRejected,
): Acceptor {
  const secure = createTlsAcceptor(serverTls, limits, onProtocol, onRejected);
  const cleartext = createCleartextAcceptor(limits, (socket, protocol) => {
    const first: unknown = socket.read();
    if (Buffer.isBuffer(first)) {
      socket.unshift(first);
    }
    if (Buffer.isBuffer(first) && first[0] === handshake) {
      // The TLS server, which has no port, reads the bytes that the socket holds.
      secure.server.emit("connection", socket);
      return;
    }
    onProtocol(socket, protocol);
  });
  return {
    ...cleartext,
    closePending() {
      cleartext.closePending();
      secure.closePending();
    },
  };
}

function addressOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
