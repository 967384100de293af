import { createPipelineClient } from "throughline/client";
import { Delivery } from "throughline/contracts";
import { httpError } from "./http-error.js";

/** onnxruntime and grpc-js are not in this client, but Next's edge runtime has no sockets: run on Node. */
export const runtime = "nodejs";

const baseUrl = process.env["PIPELINE_URL"] ?? "http://127.0.0.1:8080";
const pipeline = createPipelineClient({ baseUrl });

/** Next.js, as `app/images/route.ts`: `POST /images` with `{"prompt": "…"}` answers the image itself. */
export async function POST(request: Request): Promise<Response> {
  const body: unknown = await request.json().catch(() => undefined);
  const prompt: unknown = Object(body).prompt;
  if (typeof prompt !== "string") {
    return Response.json({ error: 'send JSON with a "prompt"' }, { status: 400 });
  }
  try {
    const { image, seed, traceId } = await pipeline.generate(
      { prompt, options: { delivery: Delivery.INLINE } },
      { signal: request.signal, timeoutMs: 60_000 },
    );
    return new Response(new Uint8Array(image?.data ?? []), {
      headers: { "content-type": image?.contentType ?? "", "x-seed": String(seed), "x-trace-id": traceId },
    });
  } catch (error) {
    const { status, body } = httpError(error);
    return Response.json(body, { status });
  }
}
