import * as net from "node:net";
import type { ListenLimits } from "./listen-limits.js";
import { readPreface, type WireProtocol } from "./preface.js";

/** Acceptor of connections, which detects the protocol of each. */
export interface Acceptor {
  /** Not bound yet. */
  readonly server: net.Server;
  readonly scheme: "http" | "https";
  /** Closes the connections whose protocol is still undetermined. */
  closePending(): void;
}

/** Listener for connections of which no byte was consumed. */
export type OnProtocol = (socket: net.Socket, protocol: WireProtocol) => void;

/** Accept cleartext connections. The first bytes determine the protocol. */
export function createCleartextAcceptor(limits: Required<ListenLimits>, onProtocol: OnProtocol): Acceptor {
  const pending = new Set<net.Socket>();
  // Half-open: a client that closes its side right after the request still gets an immediate response. A longer call is cancelled, because
  // a disconnected client looks the same.
  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    pending.add(socket);
    socket.once("close", () => pending.delete(socket));
    socket.on("error", () => socket.destroy());
    readPreface(socket, {
      timeoutMs: limits.prefaceTimeoutMs,
      onProtocol(protocol) {
        pending.delete(socket);
        onProtocol(socket, protocol);
      },
    });
  });
  return {
    server,
    scheme: "http",
    closePending() {
      for (const socket of pending) {
        socket.destroy();
      }
    },
  };
}
