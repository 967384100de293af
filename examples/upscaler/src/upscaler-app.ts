import assert from "node:assert/strict";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import sharp from "sharp";
import { type App, type AppHost, createApp, onwardCall, serverScope, traceIdOf, withSpan } from "throughline/app";
import { Delivery, ImagePipelineService } from "throughline/contracts";
import { type UpscaleRequest, UpscalerService } from "./gen/upscaler/v1/upscaler_pb.js";

/** Makes images larger, by Lanczos resampling: sharper than a browser's zoom, but no neural network that invents detail. */
export function createUpscalerApp({ apps, telemetry, logger }: AppHost): App {
  async function bytesOf({ source }: UpscaleRequest, call: HandlerContext): Promise<Uint8Array> {
    if (source.case === "image") {
      return source.value;
    }
    if (source.case !== "prompt") {
      return fromDataUri(source.value ?? "");
    }
    const pipeline = apps.client("local/image-pipeline", ImagePipelineService);
    const request = { prompt: source.value, options: { delivery: Delivery.DATA_URI } };
    const { image } = await pipeline.generate(request, onwardCall(call));
    return fromDataUri(image?.url ?? "");
  }

  return createApp({
    name: "upscaler",
    services: [UpscalerService],
    maxRequestBytes: 10_000_000,
    routes(router) {
      router.service(UpscalerService, {
        async upscale(request, call) {
          const parent = call.values.get(serverScope);
          const original = await bytesOf(request, call);
          return withSpan(telemetry.tracer, "resize", { parent }, async () => {
            const { data, info } = await enlarge(original, request.factor);
            return { image: data, width: info.width, height: info.height, traceId: traceIdOf(parent) };
          });
        },
      });
    },
    telemetry,
    logger,
  });
}

async function enlarge(original: Uint8Array, factor: number) {
  try {
    const image = sharp(original, { limitInputPixels: 2048 * 2048 });
    const { format, width, height } = await image.metadata();
    assert.ok(["png", "jpeg", "webp"].includes(format));
    const size = { width: width * factor, height: height * factor, kernel: "lanczos3" } as const;
    return await image.resize(size).png().toBuffer({ resolveWithObject: true });
  } catch {
    throw new ConnectError("image: not a PNG, JPEG or WebP of at most 2048 × 2048 pixels", Code.InvalidArgument);
  }
}

function fromDataUri(uri: string): Uint8Array {
  return Buffer.from(uri.slice(uri.indexOf(",") + 1), "base64");
}
