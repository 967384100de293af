import { once } from "node:events";
import * as net from "node:net";
import { createHttp1Side } from "./http1-side.js";
import { createHttp2Side } from "./http2-side.js";
import { createCleartextAcceptor } from "./listen-acceptor.js";
import { createAddressCounter } from "./listen-addresses.js";
import { type ListenLimits, resolveListenLimits } from "./listen-limits.js";
import { type NodeHandler, respondPlain } from "./node-handler.js";
import type { WireProtocol } from "./preface.js";
import { createTlsAcceptor, type ServerTls } from "./tls-acceptor.js";

/** Options of {@link listen}: where, for whom, and within which limits. */
export interface ListenOptions extends ListenLimits {
  /** Answers each request, of HTTP/1.1 and HTTP/2 alike. */
  readonly handler: NodeHandler;
  /** Address to bind. Default: `127.0.0.1`. */
  readonly host?: string;
  /** TCP port; 0 takes a free one. */
  readonly port: number;
  /** Default: cleartext. */
  readonly tls?: ServerTls;
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

/** Time between cancelling the calls that still run and cutting their connections, in milliseconds, where nothing else is said. */
export const defaultCancelMs = 500;

/**
 * Opens one port for HTTP/1.1 and HTTP/2: with TLS by ALPN, in cleartext with prior knowledge (h2c), which is read from the first bytes.
 * Rejects with the system's error (EADDRINUSE, EACCES, …) if the port cannot be opened.
 */
export async function listen(options: ListenOptions): Promise<Listening> {
  const limits = resolveListenLimits(options);
  const handler = withoutLongUrls(options.handler, limits.maxUrlBytes);
  const http1 = createHttp1Side(handler, limits);
  const http2 = createHttp2Side(handler, limits);
  const onProtocol = (socket: net.Socket, protocol: WireProtocol) =>
    (protocol === "http2" ? http2 : http1).accept(socket);
  const acceptor = options.tls
    ? createTlsAcceptor(options.tls, limits, onProtocol)
    : createCleartextAcceptor(limits, onProtocol);
  const { server } = acceptor;
  const addresses = createAddressCounter(limits.maxConnectionsPerAddress);
  const sockets = new Set<net.Socket>();

  server.on("connection", (socket: net.Socket) => {
    const leave = addresses.enter(socket.remoteAddress);
    if (leave === undefined) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      leave();
    });
  });
  server.maxConnections = limits.maxConnections;
  server.listen(options.port, options.host ?? "127.0.0.1");
  await once(server, "listening");

  async function stop({ graceMs, cancel, cancelMs = defaultCancelMs }: StopOptions): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    acceptor.closeUndecided();
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
    url: `${acceptor.scheme}://${urlHost(address)}:${port}`,
    stop(stopOptions) {
      stopping ??= stop(stopOptions);
      return stopping;
    },
  };
}

function withoutLongUrls(handler: NodeHandler, maxBytes: number): NodeHandler {
  return (request, response) => {
    if ((request.url?.length ?? 0) > maxBytes) {
      respondPlain(response, 414, `the path is longer than the limit of ${maxBytes} bytes`);
      return;
    }
    handler(request, response);
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
