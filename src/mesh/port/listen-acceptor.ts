import * as net from "node:net";
import type { ListenLimits } from "./listen-limits.js";
import { readPreface, type WireProtocol } from "./preface.js";

/** Takes connections and finds out which protocol each speaks. */
export interface Acceptor {
  /** Not bound yet. */
  readonly server: net.Server;
  readonly scheme: "http" | "https";
  /** Closes the connections that have not said what they speak. */
  closeUndecided(): void;
}

/** Gets a connection whose bytes are all still to be read. */
export type OnProtocol = (socket: net.Socket, protocol: WireProtocol) => void;

/** Takes cleartext connections; what they speak is read from their first bytes. */
export function createCleartextAcceptor(limits: Required<ListenLimits>, onProtocol: OnProtocol): Acceptor {
  const undecided = new Set<net.Socket>();
  // Half-open, so that a client which closes its side right after the request still gets what is answered at once. A call that takes
  // longer is cancelled then: a client that has left looks the same.
  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    undecided.add(socket);
    socket.once("close", () => undecided.delete(socket));
    socket.on("error", () => socket.destroy());
    readPreface(socket, {
      timeoutMs: limits.prefaceTimeoutMs,
      onProtocol(protocol) {
        undecided.delete(socket);
        onProtocol(socket, protocol);
      },
    });
  });
  return {
    server,
    scheme: "http",
    closeUndecided() {
      for (const socket of undecided) {
        socket.destroy();
      }
    },
  };
}
