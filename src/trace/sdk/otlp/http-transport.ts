import { Agent as HttpAgent, request as httpRequest, validateHeaderName, validateHeaderValue } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { checkHeaders } from "./check-headers.js";
import { createCollectorTls } from "./collector-tls.js";
import { type ExportVerdict, judgeHttpFailure } from "./export-verdict.js";
import type { ExporterConfig } from "./exporter-config.js";
import { type OtlpTransport, userAgent } from "./otlp-transport.js";

/** Most that is read of a response; a collector answers with a few bytes. */
const maxResponseBytes = 1024 * 1024;

/**
 * OTLP/HTTP with Protobuf. OpenTelemetry's own exporter is not used, because it keeps the collector's Retry-After to itself.
 *
 * @throws TelemetryConfigError when a header cannot be sent.
 */
export function createHttpTransport({ url, secure, headers, compression, tls }: ExporterConfig): OtlpTransport {
  checkHeaders(headers, (name, value) => {
    validateHeaderName(name);
    validateHeaderValue(name, value);
  });
  const collectorTls = secure ? createCollectorTls(tls) : undefined;
  const newAgent = () =>
    collectorTls === undefined
      ? new HttpAgent({ keepAlive: true })
      : new HttpsAgent({ keepAlive: true, secureContext: collectorTls.context() });
  let agent: HttpAgent | undefined;
  const disconnect = () => {
    agent?.destroy();
    agent = undefined;
  };
  const open = secure ? httpsRequest : httpRequest;
  const allHeaders = {
    "user-agent": userAgent,
    ...headers,
    "content-type": "application/x-protobuf",
    ...(compression === "gzip" && { "content-encoding": "gzip" }),
  };
  const post = (body: Uint8Array, timeoutMs: number) =>
    new Promise<ExportVerdict>((resolve, reject) => {
      agent ??= newAgent();
      const request = open(url, { method: "POST", agent, headers: { ...allHeaders, "content-length": body.length } });
      const timer = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
      request.once("close", () => clearTimeout(timer));
      request.on("error", reject);
      request.on("response", (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on("error", reject);
        response.on("data", (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxResponseBytes) {
            request.destroy(new Error(`an answer of more than ${maxResponseBytes} bytes`));
          }
          chunks.push(chunk);
        });
        response.on("end", () => {
          const { statusCode = 0 } = response;
          const isTaken = statusCode >= 200 && statusCode < 300;
          resolve(
            isTaken
              ? { kind: "taken", response: Buffer.concat(chunks) }
              : judgeHttpFailure(statusCode, response.headers["retry-after"], Date.now()),
          );
        });
      });
      request.end(body);
    });
  return {
    async send(request, timeoutMs) {
      try {
        return await post(compression === "gzip" ? await compress(request) : request, timeoutMs);
      } catch (error) {
        // A connection that failed may be better the next time, with certificates that were renewed; the specification wants it tried again.
        disconnect();
        return { kind: "later", reason: error instanceof Error ? error.message || error.name : "unknown" };
      }
    },
    close: disconnect,
  };
}

const compress = promisify(gzip);
