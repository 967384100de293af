import { Code } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeFromString } from "@connectrpc/connect/protocol-connect";

/** Response with its status code. */
export interface InspectedResponse {
  /** The same response, with an unread body. */
  readonly response: UniversalServerResponse;
  /** Status code; undefined without one, such as for 415. */
  readonly code: Code | undefined;
}

/**
 * Extract the status code of a unary response that Connect's handler made without running an interceptor. The code is in gRPC's trailers, in
 * the trailers at the end of gRPC-Web's body, or in Connect's JSON.
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
