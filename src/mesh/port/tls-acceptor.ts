import type * as net from "node:net";
import * as tls from "node:tls";
import type { Reloaded } from "../tls/reloaded-files.js";
import { material, type TlsMaterial } from "../tls/tls-material.js";
import { tlsPolicy } from "../tls/tls-policy.js";
import type { Acceptor, OnProtocol } from "./listen-acceptor.js";
import type { ListenLimits } from "./listen-limits.js";

/** TLS of a server. */
export interface ServerTls {
  /** The server's certificate and key, and the authorities of clients' certificates. New connections use what is current. */
  readonly material: Reloaded<TlsMaterial>;
  /**
   * What is asked of clients: no certificate, one where they have it, or one in any case. It takes authorities in `material`. A
   * certificate that does not hold before them is as good as none. @default none
   */
  readonly clientCertificate?: "none" | "optional" | "required" | undefined;
}

/** Takes TLS connections; what they speak is agreed by ALPN, HTTP/1.1 where the client does not say. */
export function createTlsAcceptor(
  { material: files, clientCertificate = "none" }: ServerTls,
  limits: Required<ListenLimits>,
  onProtocol: OnProtocol,
): Acceptor {
  /** By the peer's address: a secured socket has no other public way back to its connection. */
  const undecided = new Map<string, net.Socket>();
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
    undecided.set(peer, socket);
    socket.once("close", () => undecided.delete(peer));
    socket.on("error", () => socket.destroy());
  });
  server.on("secureConnection", (socket) => {
    undecided.delete(addressOf(socket));
    socket.on("error", () => socket.destroy());
    onProtocol(socket, socket.alpnProtocol === "h2" ? "http2" : "http1");
  });
  server.on("tlsClientError", (_, socket) => socket.destroy());
  // Connections that are open keep what they began with.
  files.onChange((changed) => server.setSecureContext({ ...tlsPolicy, ...material(changed) }));
  return {
    server,
    scheme: "https",
    closeUndecided() {
      for (const socket of undecided.values()) {
        socket.destroy();
      }
    },
  };
}

function addressOf({ remoteAddress, remotePort }: net.Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
