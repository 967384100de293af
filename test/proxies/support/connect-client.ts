import { spawn } from "node:child_process";
import { once } from "node:events";
import { buffer } from "node:stream/consumers";
import { Agent, fetch } from "undici";
import * as z from "zod";
import { CallFailure, type CallOptions, type Client, codeOfHttpStatus, type Message, type Server } from "./client.js";
import { envelopesOf, noChunks, toEnvelope } from "./envelopes.js";
import { rulesOf } from "./methods.js";

/** A response of HTTP, of which the head has arrived. */
interface Answer {
  /** Undefined if the program does not tell. */
  readonly status: number | undefined;
  readonly body: AsyncIterable<Uint8Array>;
}

type Send = (
  path: string,
  headers: Readonly<Record<string, string>>,
  body: Uint8Array,
  signal: AbortSignal | undefined,
) => Promise<Answer>;

/** Connect with JSON by Node's fetch, over HTTP/1.1. */
export function openFetchClient({ port, ca }: Server): Client {
  const dispatcher = new Agent({ connect: { ca } });
  return connectClient(
    "Connect with JSON (fetch)",
    async (path, headers, body, signal) => {
      const init = { method: "POST", headers, body, dispatcher, ...(signal && { signal }) };
      const response = await fetch(`https://localhost:${port}/${path}`, init);
      return { status: response.status, body: response.body ?? noChunks() };
    },
    () => void dispatcher.destroy(),
  );
}

/** Connect with JSON by curl. @param version of HTTP, as curl's flag. */
export function openCurlClient({ port, caFile }: Server, version: "--http1.1" | "--http2"): Client {
  return connectClient(`Connect with JSON (curl ${version})`, async (path, headers, body, signal) => {
    const fields = Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);
    const flags = ["--silent", "--show-error", "--no-buffer", version, "--cacert", caFile, ...fields];
    const child = spawn("curl", [...flags, "--data-binary", "@-", `https://localhost:${port}/${path}`]);
    signal?.addEventListener("abort", () => child.kill());
    // A proxy may answer before it has read a long body.
    child.stdin.on("error", () => {});
    child.stdin.end(body);
    const ended = once(child, "close");
    async function* chunks() {
      const errors = buffer(child.stderr);
      yield* child.stdout;
      const [code] = await ended;
      if (code !== 0) {
        throw new CallFailure("UNAVAILABLE", `curl ended with ${code}: ${await errors}`);
      }
    }
    return { status: undefined, body: chunks() };
  });
}

function connectClient(name: string, send: Send, close = () => {}): Client {
  const headersOf = (type: string, { timeoutMs }: CallOptions) => ({
    "content-type": type,
    "connect-protocol-version": "1",
    ...(timeoutMs !== undefined && { "connect-timeout-ms": String(timeoutMs) }),
  });
  return {
    name,
    async unary(path, request, options = {}) {
      const body = Buffer.from(JSON.stringify(request));
      const answer = await send(path, headersOf("application/json", options), body, options.signal);
      const chunks: Uint8Array[] = [];
      for await (const chunk of answer.body) {
        chunks.push(chunk);
      }
      const message = parseJson(Buffer.concat(chunks).toString(), answer.status);
      if ((answer.status ?? 200) !== 200 || "code" in message) {
        throw toFailure(message);
      }
      return message;
    },
    async *stream(path, request, options = {}) {
      const body = toEnvelope(Buffer.from(JSON.stringify(request)));
      const answer = await send(path, headersOf("application/connect+json", options), body, options.signal);
      if ((answer.status ?? 200) !== 200) {
        throw new CallFailure(codeOfHttpStatus(answer.status ?? 0), `HTTP ${answer.status}`);
      }
      let isWhole = false;
      for await (const { flags, data } of envelopesOf(answer.body)) {
        const message = parseJson(data.toString(), undefined);
        if (flags !== endOfStream) {
          yield message;
        } else if (message["error"] !== undefined) {
          throw toFailure(message["error"]);
        } else {
          isWhole = true;
        }
      }
      if (!isWhole) {
        throw new CallFailure("UNAVAILABLE", "the stream has no end");
      }
    },
    close,
  };
}

const endOfStream = 2;

function parseJson(text: string, status: number | undefined): Message {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch {
    // A page of the proxy.
    const code = status ?? Number(/\b[45]\d\d\b/.exec(text)?.[0]);
    throw new CallFailure(codeOfHttpStatus(code), `HTTP ${code}: ${text.slice(0, 100)}`);
  }
}

const errorSchema = z.object({
  code: z.string(),
  message: z.string().default(""),
  details: z.array(z.object({ type: z.string(), value: z.string() })).default([]),
});

function toFailure(error: unknown): CallFailure {
  const { code, message, details } = errorSchema.parse(error);
  const violations = details.filter(({ type }) => type === "buf.validate.Violations");
  return new CallFailure(
    code.toUpperCase().replace("CANCELED", "CANCELLED"),
    message,
    violations.flatMap(({ value }) => rulesOf(Buffer.from(value, "base64"))),
  );
}
