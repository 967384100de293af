import type { ExportVerdict } from "./export-verdict.js";

/** Carries encoded requests to a collector, one try each. */
export interface OtlpTransport {
  /** Sends an encoded export request. Never rejects, and is over after `timeoutMs`. */
  send(request: Uint8Array, timeoutMs: number): Promise<ExportVerdict>;
  /** Lets go of the connections, whatever state they are in. */
  close(): void;
}

/** What exports call themselves; the specification wants a name. */
export const userAgent = "throughline-otlp-exporter";
