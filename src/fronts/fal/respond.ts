import type { FrontCall } from "../../mesh/serve/http-front.js";
import { writePieces } from "../../mesh/serve/write-response.js";
import { respondJson, writeJson } from "../json-response.js";
import type { FalError } from "./errors.js";

/** Header with the id of a request, on every answer: clients tell by it that a server answered, and not a proxy. */
const idHeader = "x-fal-request-id";

/** Send an answer. */
export function respond({ response }: FrontCall, id: string, status: number, body: object): void {
  respondJson(response, status, body, { [idHeader]: id, "cache-control": "no-store" });
}

/** Send an output, which may contain images, with back-pressure. */
export function respondOutput(
  { response }: FrontCall,
  id: string,
  output: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> {
  return writeJson(response, 200, output, { [idHeader]: id, "cache-control": "no-store", ...headers });
}

/** Send an error. */
export function respondError({ response }: FrontCall, id: string, error: FalError): void {
  const { status, body, type, headers } = error;
  respondJson(response, status, body, {
    [idHeader]: id,
    "cache-control": "no-store",
    ...(type !== undefined && { "x-fal-error-type": type }),
    ...headers,
  });
}

/** Writer of server-sent events, with back-pressure. */
export interface EventWriter {
  readonly isOpen: boolean;
  /** Sends an event; the headers before the first one. */
  send(event: object): Promise<void>;
  end(): void;
  /** Sends an error as an event and cuts the connection, so that clients do not take the event for the output. */
  fail(error: FalError): Promise<void>;
}

/** @param id of the request. */
export function createEventWriter({ response }: FrontCall, id: string): EventWriter {
  const closed = new Promise<void>((resolve) => response.once("close", resolve));
  let isOpen = false;
  const send = async (event: object): Promise<void> => {
    if (!isOpen) {
      isOpen = true;
      response.statusCode = 200;
      response.setHeader("content-type", "text/event-stream; charset=utf-8");
      response.setHeader("cache-control", "no-store");
      // Otherwise nginx buffers the stream until its end.
      response.setHeader("x-accel-buffering", "no");
      response.setHeader(idHeader, id);
    }
    await writePieces(Buffer.from(`data: ${JSON.stringify(event)}\n\n`), response, closed);
  };
  return {
    get isOpen() {
      return isOpen;
    },
    send,
    end: () => void response.end(),
    async fail(error) {
      await send(error.body);
      response.destroy();
    },
  };
}
