import express, { type ErrorRequestHandler, type Express } from "express";
import type { createPipelineClient } from "throughline/client";
import { Delivery } from "throughline/contracts";
import { httpError } from "./http-error.js";

/** Express: `POST /images` with `{"prompt": "…"}` answers the image itself. */
export function createExpressApp(pipeline: ReturnType<typeof createPipelineClient>): Express {
  const app = express();
  app.use(express.json({ limit: "16kb" }));

  app.post("/images", async (request, response) => {
    // A browser that goes away cancels the call; the engine stops within one step.
    const abort = new AbortController();
    response.on("close", () => abort.abort());

    const prompt: unknown = Object(request.body).prompt;
    const { image, seed, traceId } = await pipeline.generate(
      { prompt: typeof prompt === "string" ? prompt : "", options: { delivery: Delivery.INLINE } },
      { signal: abort.signal, timeoutMs: 60_000 },
    );
    response.set({ "x-seed": String(seed), "x-trace-id": traceId });
    response.type(image?.contentType ?? "").send(Buffer.from(image?.data ?? []));
  });

  const onError: ErrorRequestHandler = (error, _request, response, next) => {
    if (response.destroyed) {
      // The browser is gone, and the call was cancelled for it.
      return;
    }
    // express.json rejects a body that it cannot read with a status of its own.
    if (response.headersSent || Object(error).status !== undefined) {
      next(error);
      return;
    }
    const { status, body } = httpError(error);
    response.status(status).json(body);
  };
  app.use(onError);
  return app;
}
