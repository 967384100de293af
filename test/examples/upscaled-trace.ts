import type { SpanRecord } from "../../src/trace/span-record.js";
import { text } from "../support/dump-spans.js";
import { dumpPainted, goodAttempt, painted } from "../support/painted-trace.js";

/** Spans as text, without what differs from run to run: nobody asked for a seed here. */
export const dumpUpscaled = (spans: readonly SpanRecord[]): string => withoutSeed(dumpPainted(spans));

/**
 * The nine spans of one picture, `a red heart`, that was painted by a fake engine and then enlarged, whole.
 *
 * @param wire how the apps called each other.
 */
export function upscaledTrace(wire: "memory" | "port"): string {
  const call = text`
    call-image-pipeline CLIENT upscaler
        app.id="local/image-pipeline"
        rpc.method="throughline.v1.ImagePipelineService/Generate"
        rpc.response.status_code="OK"
        rpc.system.name="grpc"
        ${wire === "port" ? goodAttempt(1) : ""}
  `;
  const below = [call, painted(11, 11, "Infer", wire), "resize INTERNAL upscaler"].join("\n").split("\n");
  return withoutSeed(["upscaler SERVER upscaler", ...below.map((line) => `  ${line}`)].join("\n"));
}

function withoutSeed(dump: string): string {
  return dump.replace(/(?<=diffusion\.seed=)\d+/, "*");
}
