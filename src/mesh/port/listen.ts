import { once } from "node:events";
import * as net from "node:net";
import { createHttp1Side } from "./http1-side.js";
import { createHttp2Side } from "./http2-side.js";
import { createCleartextAcceptor } from "./listen-acceptor.js";
import { createAddressCounter } from "./listen-addresses.js";
import { type ListenLimits, resolveListenLimits } from "./listen-limits.js";
import { type NodeHandler, respondPlain } from "./node-handler.js";
import type { WireProtocol } from "./preface.js";
import { createEitherAcceptor, createTlsAcceptor, type OnTlsRejected, type ServerTls } from "./tls-acceptor.js";

/** Options of {@link listen}. */
export interface ListenOptions extends ListenLimits {
  /** Handler of HTTP/1.1 and HTTP/2 requests. */
  readonly handler: NodeHandler;
  /** Address to bind. Default: `127.0.0.1`. */
  readonly host?: string;
  /** TCP port; 0 selects a free one. */
  readonly port: number;
  /** Default: cleartext. */
  readonly tls?: ServerTls | undefined;
  /** Receives clients whose required certificate is missing or not valid. @default nobody logs them */
  readonly onTlsRejected?: OnTlsRejected | undefined;
}

/** An open port. */
export interface Listening {
  /** Bound address. */
  readonly host: string;
  /** Bound port. */
  readonly port: number;
  /** Base URL without a trailing slash, such as `http://127.0.0.1:8080`. A wildcard address is given as loopback. */
  readonly url: string;
  /** Drains and closes; see {@link StopOptions}. Calling it again returns the first call's promise. */
  stop(options: StopOptions): Promise<void>;
}

/**
 * Options of a graceful stop.
 *
 * At once: no new connections, GOAWAY on HTTP/2, idle HTTP/1.1 connections closed. Running calls may finish within `graceMs`; then they are
 * cancelled, and their connections are closed after `cancelMs`.
 */
export interface StopOptions {
  /** Time limit for running calls, in milliseconds. */
  readonly graceMs: number;
  /** Called if calls still run after `graceMs`, to abort their signals with a reason. */
  readonly cancel?: () => void;
  /** Time between `cancel` and closing the connections, in milliseconds, to flush responses. Default: 500. */
  readonly cancelMs?: number;
}

/** Default time between cancelling calls and closing their connections, in milliseconds. */
export const defaultCancelMs = 500;

/**
 * Open one port for HTTP/1.1 and HTTP/2: by ALPN with TLS, by prior knowledge (h2c) in cleartext. The URL of a port with both is cleartext.
 *
 * @throws the system's error (EADDRINUSE, EACCES, …) if the port cannot be opened.
 */
export async function listen(options: ListenOptions): Promise<Listening> {
  const limits = resolveListenLimits(options);
  const handler = withoutLongUrls(options.handler, limits.maxUrlBytes);
  const http1 = createHttp1Side(handler, limits);
  const http2 = createHttp2Side(handler, limits);
  const onProtocol = (socket: net.Socket, protocol: WireProtocol) =>
    (protocol === "http2" ? http2 : http1).accept(socket);
  const { tls } = options;
  const acceptor =
    tls === undefined
      ? createCleartextAcceptor(limits, onProtocol)
      : (tls.isOptional ? createEitherAcceptor : createTlsAcceptor)(tls, limits, onProtocol, options.onTlsRejected);
  const { server } = acceptor;
  const addresses = createAddressCounter(limits.maxConnectionsPerAddress);
  const sockets = new Set<net.Socket>();

  server.on("connection", (socket: net.Socket) => {
    const release = addresses.acquire(socket.remoteAddress);
    if (release === undefined) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      release();
    });
  });
  server.maxConnections = limits.maxConnections;
  server.listen(options.port, options.host ?? "127.0.0.1");
  await once(server, "listening");

  async function stop({ graceMs, cancel, cancelMs = defaultCancelMs }: StopOptions): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    acceptor.closePending();
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
