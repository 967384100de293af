import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import type { Attributes, AttributeValue } from "@opentelemetry/api";
import { type Span, StudioService } from "../../gen/throughline/studio/v1/studio_pb.js";
import { printable } from "../../studio/trace-text.js";
import type { SpanKindName, SpanRecord } from "../../trace/span-record.js";
import { CliError } from "../errors.js";
import type { Access } from "../services/security.js";

export interface ServerTransportOptions {
  /** Base URL. */
  readonly server: string;
  /** @default none is needed */
  readonly access?: Access | undefined;
  /** Largest message that is read, in bytes. */
  readonly maxMessageBytes: number;
}

/** Creates the transport of a command's calls. Not fetch: Node's fails when a response is silent for five minutes. */
export function createServerTransport({ server, access, maxMessageBytes }: ServerTransportOptions): Transport {
  return createConnectTransport({
    baseUrl: server,
    httpVersion: "1.1",
    readMaxBytes: maxMessageBytes,
    ...(access && { nodeOptions: access.tls, interceptors: access.interceptors }),
  });
}

/** Maximum length of a server's message, in characters. */
const maxMessageLength = 1000;

/** What a command expects at a URL, with the flag that names it. */
export type ServerRole = "pipeline" | "collector";

const flags = { pipeline: "--server", collector: "--collector" } as const;

/** Describes a failed call to a server, with what to do. */
export function describeCallFailure(server: string, cause: unknown, role: ServerRole): string {
  const error = ConnectError.from(cause);
  const code = codeToString(error.code).toUpperCase();
  // Messages of TLS libraries have several lines.
  const message = printable(error.rawMessage.replaceAll(/\s+/g, " ").trim(), maxMessageLength);
  const answer = `${code}: ${message === "" ? "no reason given" : message}`;
  const advice = adviceFor(server, error, role);
  const reached = isSystemError(error.cause) ? `cannot reach ${server}: ${answer}` : `${server} answered ${answer}`;
  return advice === undefined ? reached : `${reached} (${advice})`;
}

function adviceFor(server: string, { code, cause, rawMessage }: ConnectError, role: ServerRole): string | undefined {
  const named = `${flags[role]} names its URL`;
  const reason = `${cause instanceof Error && "code" in cause ? cause.code : ""} ${rawMessage}`;
  if (server.startsWith("https:") && /EPROTO|wrong version number|packet length too long/i.test(reason)) {
    return `the server has no TLS: use http:// instead of https://`;
  }
  if (server.startsWith("http:") && /socket hang up|ECONNRESET|EPIPE|HPE_INVALID/.test(reason)) {
    return `if the server has TLS, use https:// instead of http://`;
  }
  if (isSystemError(cause)) {
    return role === "pipeline"
      ? `start one with \`throughline dev\`; ${named}`
      : `\`throughline dev\` and \`throughline collector\` start one; ${named}`;
  }
  // Another service of this project, or something else, answers with 404.
  return code === Code.Unimplemented ? `that is not a ${role}: ${named}` : undefined;
}

function isSystemError(cause: unknown): boolean {
  return cause instanceof Error && "syscall" in cause;
}

/** Spans of a long trace come in one message. */
const maxMessageBytes = 64 * 1024 * 1024;

/** Milliseconds to wait for a collector's answer. */
export const studioWaitMs = 10_000;

/** Source of traces and requests: a local collector, or a pipeline with a studio. */
export interface StudioSource {
  /** Base URL. */
  readonly server: string;
  readonly studio: Client<typeof StudioService>;
}

/** Creates a client of the StudioService at a base URL. */
export function connectStudio(server: string, access?: Access): StudioSource {
  return { server, studio: createClient(StudioService, createServerTransport({ server, access, maxMessageBytes })) };
}

/** Milliseconds to wait for a pipeline's answer whether it has a studio. */
const studioLinkWaitMs = 1000;

/**
 * URL of a trace in the studio that a pipeline serves; undefined if it serves none, or one without traces.
 *
 * @throws the reason of `interrupt`.
 */
export async function studioLinkOf(
  { server, studio }: StudioSource,
  traceId: string,
  interrupt: AbortSignal,
): Promise<string | undefined> {
  try {
    const { hasTraces } = await studio.getStudio({}, { signal: interrupt, timeoutMs: studioLinkWaitMs });
    return hasTraces ? `${server.replace(/\/*$/, "/")}#trace=${traceId}` : undefined;
  } catch {
    interrupt.throwIfAborted();
    return undefined;
  }
}

/** The error of a failed call to a collector. */
export function collectorFailure(server: string, cause: unknown): CliError {
  return new CliError(describeCallFailure(server, cause, "collector"), { cause });
}

/** Which trace, and how long to wait for all of it. */
export interface TraceQuery extends StudioSource {
  readonly traceId: string;
  /** Milliseconds without updates of a trace after which it counts as complete; 0 takes the stored spans. */
  readonly idleMs: number;
  /** Milliseconds after which the stored spans are taken. */
  readonly waitMs: number;
  readonly interrupt: AbortSignal;
}

/**
 * Returns the spans of a trace: at once if it is complete, else after the waits of the query. Empty for an unknown trace.
 *
 * @throws CliError without an answer, or the reason of `interrupt`.
 */
export async function fetchTrace(query: TraceQuery): Promise<SpanRecord[]> {
  return (await fetchSpans(query)).map(spanRecordOf);
}

/** {@link fetchTrace}, with the spans as the studio's contract has them. */
export async function fetchSpans(query: TraceQuery): Promise<Span[]> {
  const { server, studio, traceId, idleMs, waitMs, interrupt } = query;
  const spans = new Map<string, Span>();
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), waitMs);
  try {
    const signal = AbortSignal.any([interrupt, over.signal]);
    for await (const response of studio.watchTrace({ traceId, idleMs }, { signal })) {
      for (const span of response.spans) {
        spans.set(span.spanId, span);
      }
      if (idleMs > 0 && missingSpans([...spans.values()]).length === 0) {
        break;
      }
    }
  } catch (error) {
    interrupt.throwIfAborted();
    if (!over.signal.aborted) {
      throw collectorFailure(server, error);
    }
  } finally {
    clearTimeout(timer);
    // Ends the call after a break.
    over.abort();
  }
  return [...spans.values()];
}

/** Converts a span of the studio to the form that trees are made of. A running span ends at 0. */
export function spanRecordOf(span: Span): SpanRecord {
  const { traceId, spanId, parentSpanId, traceState, name, service, startUnixNano, endUnixNano, statusMessage } = span;
  return {
    traceId,
    spanId,
    parentSpanId,
    traceState,
    name,
    kind: kinds.find((kind) => kind === span.kind) ?? "INTERNAL",
    service,
    startUnixNano,
    endUnixNano,
    attributes: attributesOf(span.attributes),
    events: span.events.map((event) => ({
      name: event.name,
      timeUnixNano: event.timeUnixNano,
      attributes: attributesOf(event.attributes),
    })),
    links: span.links.map((link) => ({
      traceId: link.traceId,
      spanId: link.spanId,
      attributes: attributesOf(link.attributes),
    })),
    status: { code: statuses.find((status) => status === span.status) ?? "UNSET", message: statusMessage },
    resource: { "service.name": service, ...attributesOf(span.resource) },
  };
}

const kinds = ["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"] as const satisfies readonly SpanKindName[];
const statuses = ["UNSET", "OK", "ERROR"] as const;

function attributesOf(values: Readonly<Record<string, Value>>): Attributes {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, attributeValueOf(toJson(ValueSchema, value))]),
  );
}

/** Attributes are scalars and arrays of one kind of scalar; any other Value becomes JSON text. */
function attributeValueOf(value: JsonValue): AttributeValue {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return value;
  }
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item === "string")) {
      return value;
    }
    if (value.every((item) => typeof item === "number")) {
      return value;
    }
    if (value.every((item) => typeof item === "boolean")) {
      return value;
    }
  }
  return value === null ? "" : JSON.stringify(value);
}

/** The spans of one request, by the contract. */
const contractSpans = [
  "image-pipeline",
  "preprocess-prompt",
  "call-inference-worker",
  "inference",
  "diffusion",
  "upload",
] as const;

/**
 * Returns the contract's spans that have not arrived or not ended. Without any the trace is complete, further spans included: a service ends
 * and exports them before its `image-pipeline` or its `inference`.
 */
export function missingSpans(spans: readonly Pick<SpanRecord, "name" | "endUnixNano">[]): string[] {
  const ended = new Set(spans.filter(({ endUnixNano }) => endUnixNano !== 0n).map(({ name }) => name));
  return contractSpans.filter((name) => !ended.has(name));
}
