import { once } from "node:events";
import * as net from "node:net";
import { createHttp1Side } from "./http1-side.js";
import { createHttp2Side } from "./http2-side.js";
import { type ListenLimits, resolveListenLimits } from "./listen-limits.js";
import type { NodeHandler } from "./node-handler.js";
import { readPreface } from "./preface.js";

/** Options of {@link listen}: where, for whom, and within which limits. */
export interface ListenOptions extends ListenLimits {
  /** Answers each request, of HTTP/1.1 and HTTP/2 alike. */
  readonly handler: NodeHandler;
  /** Address to bind. Default: `127.0.0.1`. */
  readonly host?: string;
  /** TCP port; 0 takes a free one. */
  readonly port: number;
}

/** An open port. */
export interface Listening {
  /** The address that was bound. */
  readonly host: string;
  /** The port that was bound. */
  readonly port: number;
  /** Base URL without a trailing slash, such as `http://127.0.0.1:8080`. A wildcard address is given as loopback. */
  readonly url: string;
  /** Drains and closes; see {@link StopOptions}. Calling it again returns the first call's promise. */
  stop(options: StopOptions): Promise<void>;
}

/**
 * How to stop. At once: no new connections, GOAWAY on HTTP/2, idle HTTP/1.1 connections closed. Calls that run may finish within the
 * grace. What still runs then is cancelled, and cut off a moment later.
 */
export interface StopOptions {
  /** How long running calls may take, in milliseconds. */
  readonly graceMs: number;
  /** Called when the grace is over and calls still run: the place to abort their signals, so that they can say why they end. */
  readonly cancel?: () => void;
  /** Time between `cancel` and cutting the connections, in milliseconds, for the last words to leave. Default: 500. */
  readonly cancelMs?: number;
}

const defaultCancelMs = 500;

/**
 * Opens one cleartext port for HTTP/1.1 and for HTTP/2 with prior knowledge (h2c). Which one a connection speaks is read from its
 * first bytes. Rejects with the system's error (EADDRINUSE, EACCES, …) if the port cannot be opened.
 */
export async function listen(options: ListenOptions): Promise<Listening> {
  const limits = resolveListenLimits(options);
  const http1 = createHttp1Side(options.handler, limits);
  const http2 = createHttp2Side(options.handler, limits);
  /** Every open connection; the undecided ones belong to neither side yet. */
  const sockets = new Set<net.Socket>();
  const undecided = new Set<net.Socket>();

  // Half-open, so that a client which closes its side right after the request still gets what is answered at once. A call that takes
  // longer is cancelled then: a client that has left looks the same.
  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    undecided.add(socket);
    socket.on("close", () => {
      sockets.delete(socket);
      undecided.delete(socket);
    });
    socket.on("error", () => socket.destroy());
    readPreface(socket, {
      timeoutMs: limits.prefaceTimeoutMs,
      onProtocol(protocol) {
        undecided.delete(socket);
        (protocol === "http2" ? http2 : http1).accept(socket);
      },
    });
  });
  server.maxConnections = limits.maxConnections;
  server.listen(options.port, options.host ?? "127.0.0.1");
  await once(server, "listening");

  async function stop({ graceMs, cancel, cancelMs = defaultCancelMs }: StopOptions): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of undecided) {
      socket.destroy();
    }
    http1.drain();
    http2.drain();
    const grace = setTimeout(() => {
      cancel?.();
      cut = setTimeout(() => {
        for (const socket of sockets) {
          socket.destroy();
        }
      }, cancelMs);
    }, graceMs);
    let cut: NodeJS.Timeout | undefined;
    await closed;
    clearTimeout(grace);
    clearTimeout(cut);
    http1.close();
    http2.close();
  }

  const { address, port } = boundAddress(server);
  let stopping: Promise<void> | undefined;
  return {
    host: address,
    port,
    url: `http://${urlHost(address)}:${port}`,
    stop(stopOptions) {
      stopping ??= stop(stopOptions);
      return stopping;
    },
  };
}

function boundAddress(server: net.Server): net.AddressInfo {
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new Error("the server is not bound to a TCP port");
  }
  return address;
}

function urlHost(address: string): string {
  if (address === "0.0.0.0") {
    return "127.0.0.1";
  }
  if (address === "::") {
    return "[::1]";
  }
  return net.isIPv6(address) ? `[${address}]` : address;
}
