import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, createClient, createRouterTransport } from "@connectrpc/connect";
import { ProxyTracerProvider, ROOT_CONTEXT } from "@opentelemetry/api";
import { GenerateRequestSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { generate } from "../../src/pipeline/generate.js";

/** A request to a worker whose answers have these settings. */
function generateWith(settings: { readonly strength?: number }, initImage?: Uint8Array) {
  const transport = createRouterTransport((router) =>
    router.service(TextToImageWorkerService, {
      infer: () => ({ image: { url: "http://images.example/a.png" }, settings }),
    }),
  );
  return generate(
    create(GenerateRequestSchema, { prompt: "a heart", options: { ...(initImage && { initImage }) } }),
    {
      signal: new AbortController().signal,
      onward: {},
      checkMayUse() {},
      caller: "somebody",
      context: ROOT_CONTEXT,
      baseUrl: "http://127.0.0.1",
      log() {},
      begin: () => () => {},
    },
    {
      directory: createAppDirectory({ apps: { "a/b": { target: "localhost:1" } }, defaultApp: "a/b" }),
      apps: { client: (_id, service) => createClient(service, transport) },
      tracer: new ProxyTracerProvider().getTracer("none"),
      store: undefined,
    },
  );
}

const image = Uint8Array.from([1, 2, 3]);

test("image of an older worker that ignored init_image is not passed on as the one asked for", async () => {
  await assert.rejects(generateWith({}, image), { code: Code.Internal, rawMessage: /^the worker ignored init_image/ });
  const { settings } = await generateWith({ strength: 0.5 }, image);
  assert.equal(settings?.strength, 0.5);
  assert.equal((await generateWith({})).image?.url, "http://images.example/a.png");
});
