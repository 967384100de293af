import assert from "node:assert/strict";
import { open, readFile, writeFile } from "node:fs/promises";
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
import { invalidFields } from "../../src/mesh/errors/errors.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { requestLimits } from "../../src/request-limits.js";
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
  ["clip-skip", "0", "clipSkip", 0],
  ["clip-skip", "2", "clipSkip", 2],
  ["guidance-rescale", "0.5", "guidanceRescale", 0.5],
];

suite("request flags", async () => {
  const folder = await temporaryFolder();

  /** Runs `generate` against a pipeline that keeps what it was asked for. */
  const generate = async (...args: readonly string[]) => {
    const requests: GenerateRequest[] = [];
    const handler = createConnectHandler({
      readMaxBytes: 16 * 2 ** 20,
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

  test("every field of the options has a flag in generate, and in demo except for the delivery and LoRAs", () => {
    const fields = new Map<string, string>(flags.map(([flag, _, field]) => [field, flag]))
      .set("loras", "lora")
      .set("initImage", "init-image");
    const flagsOf = (settings: OptionGroup) => Object.values(settings).map(({ long }: Option) => long?.slice(2));
    for (const { localName } of GenerationOptionsSchema.fields) {
      const flag = fields.get(localName) ?? localName;
      assert.ok(flagsOf(generateOptions).includes(flag), `generate has no flag for ${localName}`);
      // LoRAs of a demo would be files, for its worker.
      assert.ok(
        ["delivery", "lora"].includes(flag) || flagsOf(requestOptions).includes(flag),
        `demo has no flag for ${localName}`,
      );
    }
  });

  test("side that is no multiple of 8 is rejected before any request", async () => {
    for (const side of ["width", "height"]) {
      const { code, message } = await runInProcess(["generate", "a heart", "--out", out, `--${side}`, "100"]);
      assert.equal(code, 2);
      assert.ok(message.includes(`--${side} must be a whole number from 64 to 2048, a multiple of 8`), message);
    }
  });

  test("LoRAs are sent in their order, each with its scale if it has one", async () => {
    const options = await generate("--out", out, "--lora", "pixel", "--lora", "ghibli:-0.5", "--lora=flat:0");
    assert.deepEqual(
      options?.loras.map(({ name, scale }) => [name, scale]),
      [
        ["pixel", undefined],
        ["ghibli", -0.5],
        ["flat", 0],
      ],
    );
  });

  test("file of --init-image is sent as it is, with its strength, also at the limit of 8 MiB", async () => {
    const file = join(folder, "start.png");
    await writeFile(file, png);
    const { initImage, strength } = { ...(await generate("--out", out, "--init-image", file, "--strength", "0.6")) };
    assert.deepEqual([Buffer.from(initImage ?? []), strength?.toFixed(3)], [png, "0.600"]);
    await writeFile(file, Buffer.alloc(requestLimits.maxInitImageBytes, 1));
    const largest = await generate("--out", out, "--init-image", file);
    assert.deepEqual([largest?.initImage?.length, largest?.strength], [8_388_608, undefined]);
  });

  test("file that cannot be an image to start from is rejected before any request, and before it is read", async () => {
    const [empty, large] = [join(folder, "empty.png"), join(folder, "large.png")];
    await writeFile(empty, "");
    const file = await open(large, "w");
    await file.truncate(2 ** 40);
    await file.close();
    for (const [path, expected] of [
      [join(folder, "absent.png"), /^--init-image .*absent\.png: there is no such file$/],
      [folder, /: is a folder; name a PNG, JPEG or WebP file$/],
      [empty, /: is empty; name a PNG, JPEG or WebP file$/],
      [large, /: has 1099511627776 bytes, and the limit is 8388608 \(8 MiB\); make the image smaller$/],
    ] as const) {
      const { code, message } = await runInProcess(["generate", "a heart", "--out", out, "--init-image", path]);
      assert.equal(code, 2);
      assert.match(message, expected);
    }
    const alone = await runInProcess(["generate", "a heart", "--out", out, "--strength", "0.5"]);
    assert.deepEqual(
      [alone.code, alone.message],
      [2, "--strength needs --init-image: name a file, or leave --strength out"],
    );
  });

  test("rejected field is named by its flag too", async (t) => {
    const handler = createConnectHandler({
      routes: ({ service }) =>
        void service(ImagePipelineService, {
          // biome-ignore lint/correctness/useYield: it rejects
          async *generateStream() {
            throw invalidFields([
              { path: "options.loras", message: "unknown; the LoRAs are: pixel" },
              { path: "options.init_image", message: "is no PNG, JPEG or WebP image" },
            ]);
          },
        }),
    });
    const { url, stop } = await listen({ handler, port: 0 });
    t.after(() => stop({ graceMs: 0 }));
    const { code, message } = await runInProcess(["generate", "a heart", "--out", out, "--server", url]);
    assert.equal(code, 1);
    assert.match(message, /INVALID_ARGUMENT: .*the LoRAs are: pixel.* \(set by --lora, --init-image\)$/);
  });

  test("preview is written beside the image", async () => {
    await generate("--out", join(folder, "heart.png"), "--preview-interval", "2");
    assert.deepEqual(await readFile(join(folder, "heart-step-2.png")), png);
  });
});
