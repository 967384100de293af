import type { NodeResponse } from "../mesh/port/node-handler.js";
import { writePieces } from "../mesh/serve/write-response.js";

/** Send JSON. */
export function respondJson(
  response: NodeResponse,
  status: number,
  value: object,
  headers: Readonly<Record<string, string>> = {},
): void {
  const bytes = Buffer.from(JSON.stringify(value));
  writeJsonHead(response, status, bytes, headers);
  response.end(bytes);
}

/** Send JSON that may be large, with back-pressure. Resolves when it is written or the client has disconnected. */
export async function writeJson(
  response: NodeResponse,
  status: number,
  value: object,
  headers: Readonly<Record<string, string>>,
): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(value));
  const closed = new Promise<void>((resolve) => response.once("close", resolve));
  writeJsonHead(response, status, bytes, headers);
  await writePieces(bytes, response, closed);
  response.end();
}

function writeJsonHead(
  response: NodeResponse,
  status: number,
  bytes: Uint8Array,
  headers: Readonly<Record<string, string>>,
): void {
  const fields = { "content-type": "application/json", "content-length": bytes.byteLength, ...headers };
  // The union of two overloaded methods cannot be called as one.
  if ("stream" in response) {
    response.writeHead(status, fields);
  } else {
    response.writeHead(status, fields);
  }
}
