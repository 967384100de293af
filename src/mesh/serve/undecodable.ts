import { Code } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeFromString } from "@connectrpc/connect/protocol-connect";

/** A response whose first bytes were looked at. */
export interface InspectedResponse {
  /** The same response, from its beginning. */
  readonly response: UniversalServerResponse;
  /** The code that it answers with; undefined where it has none, such as 415. */
  readonly code: Code | undefined;
}

/**
 * Reads the code out of the response to a unary call that reached no interceptor, because Connect's handler could not read the request. It
 * stands in gRPC's trailers, in the trailers that end gRPC-Web's body, or in Connect's JSON.
 */
export async function inspectResponse(response: UniversalServerResponse): Promise<InspectedResponse> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
  }
  const whole = { ...response, body: iterate(chunks) };
  const status = response.trailer?.get("grpc-status");
  if (status != null) {
    return { response: whole, code: toCode(Number(status)) };
  }
  const text = Buffer.concat(chunks).toString("latin1");
  const inBody = /(?:^|\n|[^\x20-\x7e])grpc-status: (\d+)\r/.exec(text)?.[1];
  return { response: whole, code: inBody === undefined ? connectCode(text) : toCode(Number(inBody)) };
}

function connectCode(text: string): Code | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    const code = typeof parsed === "object" && parsed !== null && "code" in parsed ? parsed.code : undefined;
    return typeof code === "string" ? codeFromString(code) : undefined;
  } catch {
    return undefined;
  }
}

function toCode(number: number): Code | undefined {
  return Code[number] === undefined ? undefined : number;
}

async function* iterate(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}
