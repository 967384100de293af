import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { create } from "@bufbuild/protobuf";
import { pino } from "pino";
import { createApp } from "../../../src/app/create-app.js";
import type { Reloaded } from "../../../src/mesh/tls/reloaded-files.js";
import { createTelemetry } from "../../../src/trace/telemetry/telemetry.js";
import { readMessages, writeMessage } from "./frames.js";
import {
  ConformanceService,
  type ServerCompatRequest,
  ServerCompatRequestSchema,
  ServerCompatResponseSchema,
} from "./messages.js";
import { conformanceRoutes } from "./service.js";

/** A server of the suite's service. */
interface Serving {
  readonly port: number;
  stop(): unknown;
}

/** Serves the suite's service with an app, as the runner wants it. */
async function serveApp(request: ServerCompatRequest): Promise<Serving> {
  const name = "conformance";
  const logger = pino({ level: "silent" });
  const telemetry = createTelemetry({
    serviceName: name,
    environment: { OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none", OTEL_LOGS_EXPORTER: "none" },
    log: logger,
  });
  const app = createApp({
    name,
    services: [ConformanceService],
    routes: conformanceRoutes,
    telemetry,
    logger,
    ...(request.messageReceiveLimit > 0 && { maxRequestBytes: request.messageReceiveLimit }),
  });
  const tls = certificatesOf(request);
  const { port, stop } = await app.serve({
    port: 0,
    ...(tls && {
      tls: {
        material: fixed({ cert: tls.cert, key: tls.key, ca: tls.ca }),
        clientCertificate: tls.ca === undefined ? "none" : "required",
      },
    }),
  });
  return { port, stop: () => stop({ graceMs: 0 }) };
}

function certificatesOf({ useTls, serverCreds, clientTlsCert }: ServerCompatRequest) {
  if (!useTls || serverCreds === undefined) {
    return undefined;
  }
  return {
    cert: Buffer.from(serverCreds.cert),
    key: Buffer.from(serverCreds.key),
    ca: clientTlsCert.length > 0 ? Buffer.from(clientTlsCert) : undefined,
  };
}

function fixed<Value>(current: Value): Reloaded<Value> {
  return { current, onChange() {}, close() {} };
}

/**
 * Serves for one launcher, as long as its connection is open. One process serves for the whole run, because the runner wants a server for
 * each combination of protocol and TLS and gives it ten seconds to start.
 */
async function host(socket: Socket): Promise<void> {
  const closed = once(
    socket.on("error", () => {}),
    "close",
  );
  const first = await readMessages(ServerCompatRequestSchema, socket.iterator({ destroyOnReturn: false })).next();
  if (first.done === true) {
    return;
  }
  const request = first.value;
  const { port, stop } = await serveApp(request);
  const pemCert = request.serverCreds?.cert ?? new Uint8Array();
  const response = create(ServerCompatResponseSchema, { host: "127.0.0.1", port, pemCert });
  writeMessage(ServerCompatResponseSchema, response, socket);
  await closed;
  await stop();
}

const hosting = createServer((socket) => void host(socket)).listen(0, "127.0.0.1");
await once(hosting, "listening");
process.stdout.write(`${(hosting.address() as AddressInfo).port}\n`);
