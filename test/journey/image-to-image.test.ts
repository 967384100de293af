import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import sharp from "sharp";
import { type GenerationOptionsSchema, Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { parseDataUri } from "../../src/image/image-format.js";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { dumpGenerated, generated } from "../support/generated-trace.js";
import { animatedWebp, bomb, gradient, gradientPixels, svg } from "../support/input-images.js";

type Options = MessageInitShape<typeof GenerationOptionsSchema>;

const prompt = "a red heart";
const initImage = new Uint8Array(await gradient(64, 64).png().toBuffer());

async function pixelsOf(url = ""): Promise<Uint8Array> {
  const image = parseDataUri(url);
  assert.ok(image !== undefined, "a data: URI");
  return sharp(image.bytes).raw().toBuffer();
}

for (const wire of ["memory", "port"] as const) {
  describe(`image to image through both services (${wire})`, async () => {
    const engine = createFakeEngine();
    const lines: string[] = [];
    const mesh = await createTestMesh({ engine, wire, onLog: (line) => void lines.push(line) });
    after(() => mesh.stop());

    const rejection = async (options: Options): Promise<ConnectError> => {
      const error = await mesh.pipeline.generate({ prompt, options }).then(
        () => assert.fail("it is taken"),
        (reason: unknown) => ConnectError.from(reason),
      );
      assert.equal(error.code, Code.InvalidArgument, error.message);
      return error;
    };

    it("ListModels and DescribeModel say that the model takes an image", async () => {
      const { models } = await mesh.pipeline.listModels({});
      assert.deepEqual(
        models.map((model) => model.imageToImage),
        [true],
      );
      assert.equal((await mesh.worker.describeModel({})).model?.imageToImage, true);
    });

    it("request with an image makes exactly the six spans, with its strength", async () => {
      const options = { seed: 7, initImage, strength: 0.7 };
      const { traceId, settings } = await mesh.pipeline.generate({ prompt, options });
      const spans = await mesh.waitForTrace(traceId, 6);
      assert.equal(dumpGenerated(spans), generated(11, 11, "Infer", wire, 0.7));
      assert.equal(settings?.strength, Math.fround(0.7));
      assert.equal(settings?.initImage, undefined);
    });

    it("strength has its default, and a request without an image has none", async () => {
      const { settings } = await mesh.pipeline.generate({ prompt, options: { initImage } });
      assert.equal(settings?.strength, Math.fround(0.3));
      const plain = await mesh.pipeline.generate({ prompt });
      assert.equal(plain.settings?.strength, undefined);
      const spans = await mesh.waitForTrace(plain.traceId, 6);
      assert.ok(spans.every(({ attributes }) => !("diffusion.strength" in attributes)));
    });

    it("the steps that run are those of the strength, and progress counts them", async () => {
      const before = engine.stepsRun;
      const steps: string[] = [];
      const options = { initImage, strength: 0.7, numInferenceSteps: 10 };
      for await (const { event } of mesh.pipeline.generateStream({ request: { prompt, options } })) {
        if (event.case === "progress" && event.value.stage === Stage.DENOISING) {
          steps.push(`${event.value.step}/${event.value.totalSteps}`);
        }
      }
      // As a float, 0.7 is 0.699999988, of which 10 steps would be 6.
      assert.equal(engine.stepsRun - before, 7);
      assert.deepEqual([steps[0], steps.at(-1)], ["0/7", "7/7"]);
    });

    it("the engine gets the image's pixels, cropped to the size asked for", async () => {
      // The pattern of the fake engine weighs as much as the strength.
      const near = { seed: 1, numInferenceSteps: 100, strength: 0.01 };
      const { image } = await mesh.pipeline.generate({ prompt, options: { ...near, initImage } });
      const same = await pixelsOf(image?.url);
      assert.ok(gradientPixels(64, 64).every((value, i) => Math.abs(value - (same[i] ?? Number.NaN)) <= 4));
      const wide = new Uint8Array(await gradient(192, 64).webp({ lossless: true }).toBuffer());
      const cut = await mesh.pipeline.generate({
        prompt,
        options: { ...near, initImage: wide, width: 128, height: 64 },
      });
      assert.deepEqual([cut.image?.width, cut.image?.height], [128, 64]);
      const expected = await gradient(192, 64).extract({ left: 32, top: 0, width: 128, height: 64 }).raw().toBuffer();
      const actual = await pixelsOf(cut.image?.url);
      assert.ok(expected.every((value, i) => Math.abs(value - (actual[i] ?? Number.NaN)) <= 4));
    });

    it("the same image, seed and strength give the same result; another image or strength another one", async () => {
      const options = { seed: 3, strength: 0.5 };
      const url = async (more: Options) =>
        (await mesh.pipeline.generate({ prompt, options: { ...options, initImage, ...more } })).image?.url;
      const first = await url({});
      assert.equal(await url({}), first);
      assert.notEqual(await url({ strength: 1 }), first);
      const other = new Uint8Array(await gradient(64, 64).negate().png().toBuffer());
      assert.notEqual(await url({ initImage: other }), first);
    });

    it("strength 1 runs all steps", async () => {
      const before = engine.stepsRun;
      await mesh.pipeline.generate({ prompt, options: { initImage, strength: 1, numInferenceSteps: 5 } });
      assert.equal(engine.stepsRun - before, 5);
    });

    const strengths: readonly (readonly [options: Options, message: string])[] = [
      [{ initImage, strength: 0 }, "options.strength: 0 of 4 steps leaves none to run: take a strength from 0.25 to 1"],
      [
        { initImage, strength: 0.1, numInferenceSteps: 3 },
        "options.strength: 0.1 of 3 steps leaves none to run: take a strength from 0.3334 to 1, or take at least 10 steps",
      ],
      [
        { initImage, strength: 1e-45 },
        "options.strength: 1.401298e-45 of 4 steps leaves none to run: take a strength from 0.25 to 1",
      ],
      [{ strength: 0.5 }, "options: strength needs init_image: add an image, or leave strength out"],
    ];
    for (const [options, message] of strengths) {
      it(`strength without a step is rejected by its field: ${message}`, async () => {
        assert.equal((await rejection(options)).rawMessage, message);
      });
    }

    const wrongImages: readonly (readonly [what: string, bytes: Uint8Array, message: RegExp])[] = [
      ["bomb", bomb(), /^options\.init_image: the image has 30000×30000 pixels, and at most 2048 a side are accepted/],
      ["SVG", svg, /^options\.init_image: the file is SVG; send PNG, JPEG or WebP$/],
      ["header alone", initImage.subarray(0, 40), /^options\.init_image: .* truncated or damaged/],
      ["truncated image", initImage.subarray(0, 600), /^options\.init_image: .* truncated or damaged/],
    ];
    for (const [what, bytes, message] of wrongImages) {
      it(`${what} is rejected without an inference span, and the worker goes on`, async () => {
        const generations = engine.generations;
        const before = mesh.spans().length;
        assert.match((await rejection({ initImage: bytes })).rawMessage, message);
        const { traceId } = await mesh.pipeline.generate({ prompt, options: { initImage } });
        await mesh.waitForTrace(traceId, 6);
        const names = mesh
          .spans()
          .slice(before)
          .filter((span) => span.traceId !== traceId)
          .map(({ name }) => name);
        assert.deepEqual(names.sort(), ["call-inference-worker", "image-pipeline", "preprocess-prompt"]);
        assert.equal(engine.generations, generations + 1);
      });
    }

    it("odd images are taken: animated, and 1 × 1", async () => {
      const one = new Uint8Array(await gradient(1, 1).jpeg().toBuffer());
      for (const bytes of [await animatedWebp(), one]) {
        const { image } = await mesh.pipeline.generate({ prompt, options: { initImage: bytes } });
        assert.deepEqual([image?.width, image?.height], [64, 64]);
      }
    });

    it("no span and no log line has bytes of the image", async () => {
      const marked = new Uint8Array(
        await gradient(64, 64)
          .withExif({ IFD0: { ImageDescription: "MARKED-IMAGE" } })
          .jpeg()
          .toBuffer(),
      );
      assert.ok(Buffer.from(marked).includes("MARKED-IMAGE"));
      const { traceId, image } = await mesh.pipeline.generate({ prompt, options: { initImage: marked } });
      await mesh.waitForTrace(traceId, 6);
      await rejection({ initImage: marked.subarray(0, marked.length - 50) });
      const start = Buffer.from(marked.subarray(0, 60)).toString("base64");
      const written = [...lines, JSON.stringify(mesh.spans(), (_, v) => (typeof v === "bigint" ? `${v}` : v))].join();
      assert.ok(lines.length > 0);
      for (const trace of [
        "MARKED-IMAGE",
        start.slice(0, 40),
        Buffer.from("MARKED-IMAGE").toString("base64").slice(0, 12),
      ]) {
        assert.ok(!written.includes(trace), trace);
      }
      assert.ok(
        !Buffer.from(parseDataUri(image?.url ?? "")?.bytes ?? []).includes("MARKED-IMAGE"),
        "metadata is dropped",
      );
    });
  });
}

describe("model without a VAE encoder", async () => {
  const { limits } = createFakeEngine().info;
  const engine = createFakeEngine({ limits: { ...limits, imageToImage: false } });
  const mesh = await createTestMesh({ engine });
  after(() => mesh.stop());

  it("says so, and rejects an image by its field", async () => {
    const { models } = await mesh.pipeline.listModels({});
    assert.equal(models[0]?.imageToImage, false);
    await assert.rejects(mesh.pipeline.generate({ prompt, options: { initImage, strength: 0.5 } }), (error) => {
      const { code, rawMessage } = ConnectError.from(error);
      assert.equal(code, Code.InvalidArgument);
      assert.equal(
        rawMessage,
        "options.init_image: this model has no VAE encoder, so it cannot start from an image; leave it out, or use a model with one",
      );
      return true;
    });
    assert.equal(engine.generations, 0);
  });
});
