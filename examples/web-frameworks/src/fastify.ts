import { once } from "node:events";
import { ConnectError } from "@connectrpc/connect";
import fastify, { type FastifyInstance } from "fastify";
import type { createPipelineClient } from "throughline/client";
import { Delivery } from "throughline/contracts";
import { httpError } from "./http-error.js";

const requestSchema = {
  querystring: { type: "object", required: ["prompt"], properties: { prompt: { type: "string" } } },
} as const;

/** Fastify: `GET /images/stream?prompt=…` sends progress and the image as server-sent events, for a browser's `EventSource`. */
export function createFastifyApp(pipeline: ReturnType<typeof createPipelineClient>): FastifyInstance {
  const app = fastify();

  app.get<{ Querystring: { prompt: string } }>("/images/stream", { schema: requestSchema }, async (request, reply) => {
    const abort = new AbortController();
    reply.raw.on("close", () => abort.abort());
    reply.hijack();
    // A proxy such as nginx would hold the events back until the image is done.
    reply.raw.writeHead(200, {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    });
    // Without this the headers would wait for the first event.
    reply.raw.flushHeaders();
    const send = async (event: string, data: object): Promise<void> => {
      if (!reply.raw.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)) {
        await once(reply.raw, "drain", { signal: abort.signal });
      }
    };

    try {
      const events = pipeline.generateStream(
        { request: { prompt: request.query.prompt, options: { delivery: Delivery.DATA_URI } } },
        { signal: abort.signal },
      );
      for await (const { event } of events) {
        if (event.case === "queued") {
          await send("queued", { position: event.value.position });
        } else if (event.case === "progress") {
          await send("progress", { step: event.value.step, totalSteps: event.value.totalSteps });
        } else if (event.case === "result") {
          const { image, seed, traceId } = event.value;
          await send("result", { url: image?.url, seed: String(seed), traceId });
        }
      }
    } catch (error) {
      if (!abort.signal.aborted) {
        // The status line has left, so the error is an event; EventSource would reconnect if the stream just ended.
        await send("failed", { ...httpError(ConnectError.from(error)).body });
      }
    }
    reply.raw.end();
  });
  return app;
}
