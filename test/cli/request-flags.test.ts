import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";
import type { Option } from "commander";
import { requestOptions } from "../../src/cli/options/client-options.js";
import { generateOptions } from "../../src/cli/options/command-options.js";
import type { OptionGroup } from "../../src/cli/options/option.js";
import { runProgram } from "../../src/cli/program.js";
import {
  Delivery,
  type GenerationOptions,
  GenerationOptionsSchema,
  ImageFormat,
  Scheduler,
  Stage,
} from "../../src/gen/throughline/v1/image_pb.js";
import { type GenerateRequest, ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { runInProcess } from "./support/run-in-process.js";

const png = Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), Buffer.from("the rest of an image")]);

/** Flag, its value, and the field of the options that it becomes. */
const flags: readonly (readonly [string, string, keyof GenerationOptions, unknown])[] = [
  ["negative", "text", "negativePrompt", "text"],
  ["negative", "", "negativePrompt", ""],
  ["width", "512", "width", 512],
  ["height", "768", "height", 768],
  ["steps", "7", "numInferenceSteps", 7],
  ["guidance", "3.5", "guidanceScale", 3.5],
  ["guidance", "0", "guidanceScale", 0],
  ["seed", "0", "seed", 0],
  ["scheduler", "euler-discrete", "scheduler", Scheduler.EULER_DISCRETE],
  ["scheduler", "euler-ancestral", "scheduler", Scheduler.EULER_ANCESTRAL],
  ["scheduler", "dpmpp-2m", "scheduler", Scheduler.DPMPP_2M],
  ["scheduler", "dpmpp-2m-karras", "scheduler", Scheduler.DPMPP_2M_KARRAS],
  ["scheduler", "ddim", "scheduler", Scheduler.DDIM],
  ["scheduler", "lcm", "scheduler", Scheduler.LCM],
  ["format", "png", "format", ImageFormat.PNG],
  ["format", "jpeg", "format", ImageFormat.JPEG],
  ["format", "webp", "format", ImageFormat.WEBP],
  ["delivery", "url", "delivery", Delivery.URL],
  ["delivery", "data-uri", "delivery", Delivery.DATA_URI],
  ["delivery", "inline", "delivery", Delivery.INLINE],
  ["quality", "40", "quality", 40],
  ["preview-interval", "2", "previewInterval", 2],
];

suite("request flags", async () => {
  const folder = await temporaryFolder();

  /** Runs `generate` against a pipeline that keeps what it was asked for. */
  const generate = async (...args: readonly string[]) => {
    const requests: GenerateRequest[] = [];
    const handler = createConnectHandler({
      routes: ({ service }) =>
        void service(ImagePipelineService, {
          async *generateStream({ request }) {
            if (request !== undefined) {
              requests.push(request);
            }
            const progress = { stage: Stage.DENOISING, step: 2, totalSteps: 4 };
            yield { event: { case: "progress", value: progress } };
            yield {
              event: { case: "progress", value: { ...progress, preview: png, previewContentType: "image/png" } },
            };
            const about = { contentType: "image/png", fileSize: png.length };
            const image =
              request?.options?.delivery === Delivery.INLINE
                ? { ...about, data: png }
                : { ...about, url: `data:image/png;base64,${png.toString("base64")}` };
            yield { event: { case: "result", value: { image } } };
          },
        }),
    });
    const { url, stop } = await listen({ handler, port: 0 });
    const output = () => new PassThrough({ encoding: "utf8" });
    const interrupt = new AbortController().signal;
    const context = { environment: {}, stdout: output(), stderr: output(), interrupt, supervisor: undefined };
    try {
      assert.equal(await runProgram(["generate", "a heart", "--server", url, ...args], context), 0);
    } finally {
      await stop({ graceMs: 0 });
    }
    assert.equal(requests.length, 1);
    return requests[0]?.options;
  };
  const out = join(folder, "image.png");

  for (const [flag, value, field, expected] of flags) {
    test(`--${flag} ${JSON.stringify(value)} becomes ${field}`, async () => {
      const plain = await generate("--out", out);
      const target = flag === "format" ? join(folder, `image.${value}`) : out;
      const options = await generate("--out", target, `--${flag}`, value);
      assert.deepEqual({ ...options }, { ...plain, [field]: expected });
      assert.deepEqual(await readFile(target), png);
    });
  }

  test("every field of the options has a flag in generate, and in demo except for the delivery", () => {
    const fields = new Map(flags.map(([flag, _, field]) => [field, flag]));
    const flagsOf = (settings: OptionGroup) => Object.values(settings).map(({ long }: Option) => long?.slice(2));
    for (const { localName } of GenerationOptionsSchema.fields) {
      const flag = [...fields].find(([field]) => field === localName)?.[1] ?? localName;
      assert.ok(flagsOf(generateOptions).includes(flag), `generate has no flag for ${localName}`);
      assert.ok(flag === "delivery" || flagsOf(requestOptions).includes(flag), `demo has no flag for ${localName}`);
    }
  });

  test("side that is no multiple of 8 is rejected before any request", async () => {
    for (const side of ["width", "height"]) {
      const { code, message } = await runInProcess(["generate", "a heart", "--out", out, `--${side}`, "100"]);
      assert.equal(code, 2);
      assert.ok(message.includes(`--${side} must be a whole number from 64 to 2048, a multiple of 8`), message);
    }
  });

  test("preview is written beside the image", async () => {
    await generate("--out", join(folder, "heart.png"), "--preview-interval", "2");
    assert.deepEqual(await readFile(join(folder, "heart-step-2.png")), png);
  });
});
