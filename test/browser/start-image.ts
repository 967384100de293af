import assert from "node:assert/strict";
import { once } from "node:events";
import type { TestContext } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Page } from "playwright-core";
import sharp from "sharp";
import {
  type GenerateRequest,
  ImagePipelineService,
  type ModelSchema,
  Scheduler,
} from "../../src/contracts/contracts.js";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { invalidFields } from "../../src/mesh/errors/errors.js";
import { assertAccessible, assertNoSidewaysScroll } from "./page-checks.js";
import { startPageServer } from "./page-server.js";
import { type BrowserTools, openStudioPage, type StudioPage } from "./studio-page.js";

const traceId = "4e59a70947e16460dd0641a9b92f3047";

/** A model with LoRAs that takes an image, and one that has neither. */
const models: MessageInitShape<typeof ModelSchema>[] = [
  {
    workerApp: "local/sdxl",
    name: "sdxl",
    defaults: { width: 128, height: 128, numInferenceSteps: 20, guidanceScale: 5, scheduler: Scheduler.EULER_DISCRETE },
    minSize: 64,
    maxSize: 1024,
    sizeMultiple: 8,
    maxNumInferenceSteps: 100,
    schedulers: [Scheduler.EULER_DISCRETE],
    loras: [
      "pixel-art-xl",
      "ghibli, watercolour",
      "a-very-long-name-of-a-lora-that-does-not-fit-in-one-line-of-the-form-v1.5",
    ],
    imageToImage: true,
  },
  { workerApp: "local/plain", name: "plain", minSize: 64, maxSize: 1024, sizeMultiple: 8 },
];

/** A photo as a phone writes it: its pixels lie on the side, and its orientation says so. The top is blue, the bottom orange. */
async function photo(width: number, height: number): Promise<Buffer> {
  const half = { width, height: Math.floor(height / 2), channels: 3 } as const;
  const top = await sharp({ create: { ...half, background: "#2060c0" } })
    .png()
    .toBuffer();
  const upright = sharp({ create: { ...half, height, background: "#e08030" } }).composite([
    { input: top, top: 0, left: 0 },
  ]);
  // EXIF's orientation 6: to be turned by 90° clockwise.
  return sharp(await upright.png().toBuffer())
    .rotate(270)
    .jpeg({ quality: 90 })
    .withMetadata({ orientation: 6 })
    .toBuffer();
}

interface DroppedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Drops files on the form, as a person does. */
async function drop(page: Page, ...files: readonly DroppedFile[]): Promise<void> {
  const encoded = files.map(({ name, bytes }) => ({ name, base64: Buffer.from(bytes).toString("base64") }));
  await page.evaluate(
    `((files) => {
      const data = new DataTransfer();
      for (const { name, base64 } of files) {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        data.items.add(new File([bytes], name));
      }
      const form = document.querySelector("form.request");
      form.dispatchEvent(new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true }));
      form.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    })(${JSON.stringify(encoded)})`,
  );
}

/** The page with a pipeline that keeps its requests and returns a picture of the seed. */
export async function testStartImage(t: TestContext, tools: BrowserTools): Promise<void> {
  const requests: GenerateRequest[] = [];
  let rejects = false;
  const end = new AbortController();
  const result = await sharp({ create: { width: 128, height: 128, channels: 3, background: "#508050" } })
    .png()
    .toBuffer();
  const server = await startPageServer((router) => {
    router.service(ImagePipelineService, {
      listModels: () => ({ models }),
      async *generateStream({ request }) {
        if (request === undefined) {
          return;
        }
        requests.push(request);
        if (rejects) {
          throw invalidFields([
            { path: "options.init_image", message: "the image is animated: send one of one frame" },
            {
              path: "options.strength",
              message: "0.01 of 20 steps leaves none to run: take a strength from 0.05 to 1",
            },
            { path: "options.loras[0].name", message: "this model has no LoRA of that name" },
          ]);
        }
        const image = { url: `data:image/png;base64,${result.toString("base64")}`, width: 128, height: 128 };
        const seed = request.options?.seed ?? requests.length;
        yield { event: { case: "result", value: { image, seed, traceId, model: "sdxl", executionProvider: "cpu" } } };
      },
    });
    router.service(StudioService, {
      getStudio: () => ({ hasTraces: true, workerApps: ["local/sdxl", "local/plain"] }),
      async *watchEntityMap(_, { signal }) {
        yield {};
        await once(AbortSignal.any([signal, end.signal]), "abort");
      },
      listTraces: () => ({}),
      async *watchTrace(request) {
        yield {
          spans: [
            { traceId: request.traceId, spanId: "a", name: "image-pipeline", startUnixNano: 1n, endUnixNano: 2n },
          ],
        };
      },
    });
  });
  t.after(async () => {
    end.abort();
    await server.stop();
  });
  const newest = () => requests.at(-1)?.options ?? assert.fail("no request");
  const sentImage = async () => {
    const bytes = Buffer.from(newest().initImage ?? assert.fail("no image was sent"));
    const { width, height, format, orientation } = await sharp(bytes).metadata();
    return { bytes, facts: `${format} ${width}x${height} ${orientation ?? 1}` };
  };
  const open = async (options?: Parameters<typeof openStudioPage>[3]): Promise<StudioPage> => {
    const studio = await openStudioPage(t, tools, server.url, options);
    await studio.page.getByText("Model sdxl", { exact: true }).waitFor({ state: "attached" });
    return studio;
  };
  const start = (page: Page) => page.getByRole("group", { name: "Start image" });

  await t.test("small image is dropped on the form, sent as it is, and removed; another is pasted", async () => {
    const studio = await open();
    const { page } = studio;
    const bytes = await photo(300, 200);
    await drop(page, { name: "small.jpg", bytes });
    await start(page).getByText("300×200", { exact: true }).waitFor();
    await page.getByLabel("Strength", { exact: true }).fill("0.6");
    await studio.generate("a red heart");
    await studio.done();
    const sent = await sentImage();
    assert.ok(sent.bytes.equals(bytes), "the service turns it upright itself");
    assert.equal(newest().strength?.toFixed(3), "0.600");
    await page.getByText("from small.jpg, strength 0.6").waitFor();
    await start(page).getByRole("button", { name: "Remove the start image" }).click();
    assert.equal(await page.getByLabel("Strength", { exact: true }).count(), 0);
    await studio.generate("a blue heart");
    await page.getByText("2 images").waitFor();
    assert.deepEqual([newest().initImage, newest().strength], [undefined, undefined]);
    await page.evaluate(
      `(() => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob("${bytes.toString("base64")}"), (character) => character.charCodeAt(0));
        data.items.add(new File([bytes], "pasted.jpg"));
        const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
        document.getElementById("prompt").dispatchEvent(paste);
      })()`,
    );
    await start(page).getByText("pasted.jpg", { exact: true }).waitFor();
    assert.deepEqual(studio.complaints, []);
  });

  await t.test("photo of 12 megapixels is scaled down in the browser, upright", async () => {
    const studio = await open();
    const { page } = studio;
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Start from an image" }).click();
    // Upright it is 3024 wide: a portrait.
    await (await chooser).setFiles({ name: "IMG_0001.JPG", mimeType: "image/jpeg", buffer: await photo(3024, 4032) });
    await start(page).getByText("1536×2048, scaled from 3024×4032").waitFor();
    await studio.generate("a red heart");
    await studio.done();
    const { bytes, facts } = await sentImage();
    assert.equal(facts, "jpeg 1536x2048 1");
    assert.equal(newest().strength, undefined, "the contract's default");
    const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
    const blueness = (row: number) => {
      const at = (row * info.width + 700) * info.channels;
      return (data[at + 2] ?? 0) - (data[at] ?? 0);
    };
    assert.ok(blueness(100) > 100 && blueness(1900) < -100, "the top is the top");
    await assertAccessible(page);
    await assertNoSidewaysScroll(page);
    await tools.screenshot(page, "start-image");
  });

  await t.test("files that are no images to start from are named with the reason, and nothing is lost", async () => {
    const studio = await open();
    const { page } = studio;
    const message = (text: string | RegExp) => start(page).getByRole("alert").getByText(text).waitFor();
    await drop(page, { name: "notes.txt", bytes: Buffer.from("only a text") });
    await message("notes.txt is no PNG, JPEG or WebP image.");
    await drop(page, { name: "drawing.png", bytes: Buffer.from("<svg xmlns='http://www.w3.org/2000/svg'/>") });
    await message("drawing.png is no PNG, JPEG or WebP image.");
    await drop(page, { name: "cut.jpg", bytes: (await photo(300, 200)).subarray(0, 60) });
    await message("cut.jpg cannot be read: it may be damaged or too large.");
    const bytes = await photo(64, 64);
    await drop(page, { name: "a.jpg", bytes }, { name: "b.jpg", bytes });
    await message("There are 2 files. Choose one image.");
    await assertAccessible(page);
    await drop(page, { name: "a.jpg", bytes });
    await start(page).getByText("64×64", { exact: true }).waitFor();
    assert.equal(await start(page).getByRole("alert").count(), 0);
    assert.equal(page.url(), `${server.url}/`);
  });

  await t.test("image of more than 8 MiB is encoded anew", async () => {
    const studio = await open();
    const noise = Buffer.from(crypto.getRandomValues(new Uint8Array(65_536)));
    const pixels = Buffer.alloc(2048 * 2048 * 3, noise);
    const bytes = await sharp(pixels, { raw: { width: 2048, height: 2048, channels: 3 } })
      .png({ compressionLevel: 0 })
      .toBuffer();
    assert.ok(bytes.length > 12_000_000);
    await drop(studio.page, { name: "noise.png", bytes });
    await start(studio.page).getByText("2048×2048", { exact: true }).waitFor();
    await studio.generate("a red heart");
    await studio.done();
    const sent = await sentImage();
    assert.equal(sent.facts, "jpeg 2048x2048 1");
    assert.ok(sent.bytes.length <= 8_388_608, `${sent.bytes.length}`);
  });

  await t.test("model without image to image says so, also when it is chosen after the image", async () => {
    const { page, generate } = await open();
    const bytes = await photo(64, 64);
    await drop(page, { name: "a.jpg", bytes });
    await start(page).getByText("64×64", { exact: true }).waitFor();
    await page.getByLabel("App").selectOption("local/plain");
    await generate("a red heart");
    await start(page).getByText("This model takes no image to start from. Remove it.").waitFor();
    await start(page).getByRole("button", { name: "Remove the start image" }).click();
    assert.equal(await start(page).count(), 0);
    assert.equal(await page.getByRole("group", { name: "LoRAs" }).count(), 0);
    await drop(page, { name: "a.jpg", bytes });
    await start(page).getByRole("alert").getByText("This model takes no image to start from.").waitFor();
    await page.getByLabel("App").selectOption("");
    await page.getByRole("button", { name: "Start from an image" }).waitFor();
  });

  await t.test(
    "LoRAs are chosen and scaled with the keyboard, and are in the history, in links and again",
    async () => {
      const studio = await open();
      const { page } = studio;
      await page.getByLabel("Prompt", { exact: true }).fill("a red heart");
      await page.getByLabel("pixel-art-xl").focus();
      await page.keyboard.press("Space");
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate("document.activeElement.ariaLabel"), "Scale of pixel-art-xl, slider");
      await page.keyboard.press("ArrowLeft");
      await page.keyboard.press("ArrowLeft");
      assert.equal(await page.getByLabel("Scale of pixel-art-xl", { exact: true }).inputValue(), "0.9");
      await page.getByLabel("ghibli, watercolour").check();
      await page.keyboard.press("Control+Enter");
      await studio.done();
      const sent = () => newest().loras.map(({ name, scale }) => `${name} ${scale?.toFixed(2)}`);
      const both = ["pixel-art-xl 0.90", "ghibli, watercolour undefined"];
      assert.deepEqual(sent(), both);
      await page.getByText("LoRAs pixel-art-xl 0.9, ghibli, watercolour").waitFor();
      await assertAccessible(page);
      await assertNoSidewaysScroll(page);
      await tools.screenshot(page, "loras");
      await page.getByRole("button", { name: "Copy Link" }).click();
      const link = await page.evaluate<string>("navigator.clipboard.readText()");
      await page.getByLabel("pixel-art-xl", { exact: true }).uncheck();
      await page.getByRole("button", { name: "Again" }).click();
      await page.getByText("2 images").waitFor();
      assert.deepEqual(sent(), both);
      const shared = await openStudioPage(t, tools, link);
      await shared.page.getByLabel("Scale of pixel-art-xl", { exact: true }).waitFor();
      await page.getByLabel("App").selectOption("local/plain");
      await page.keyboard.press("Control+Enter");
      await page.getByText("This model has no LoRA pixel-art-xl: remove it.").waitFor();
    },
  );

  await t.test("result becomes the next start, and again repeats it with its start after a reload", async () => {
    const studio = await open();
    const { page } = studio;
    await drop(page, { name: "first.jpg", bytes: await photo(96, 64) });
    await start(page).getByText("96×64", { exact: true }).waitFor();
    await studio.generate("a red heart");
    await studio.done();
    const first = await sentImage();
    await page.getByText("A link has no start image.").waitFor();
    await page.getByRole("button", { name: "Start from it" }).click();
    await start(page).getByText("128×128", { exact: true }).waitFor();
    await studio.generate("a blue heart");
    await page.getByText("2 images").waitFor();
    assert.ok((await sentImage()).bytes.equals(result));
    await page.reload();
    await page.getByRole("button", { name: /^a red heart, seed/ }).click();
    await page.getByRole("button", { name: "Again" }).click();
    await page.getByText("3 images").waitFor();
    assert.ok((await sentImage()).bytes.equals(first.bytes));
    await start(page).getByText("first.jpg", { exact: true }).waitFor();
  });

  await t.test("fields that the service rejects are marked at their controls", async () => {
    const { page, generate } = await open();
    await drop(page, { name: "a.jpg", bytes: await photo(64, 64) });
    await start(page).getByText("64×64", { exact: true }).waitFor();
    await page.getByLabel("pixel-art-xl").check();
    rejects = true;
    t.after(() => {
      rejects = false;
    });
    await generate("a red heart");
    await start(page).getByText("The image is animated: send one of one frame.").waitFor();
    const strength = page.getByLabel("Strength", { exact: true });
    assert.equal(await strength.getAttribute("aria-invalid"), "true");
    await start(page)
      .getByText(/^0\.01 of 20 steps leaves none to run/)
      .waitFor();
    await page.getByRole("group", { name: "LoRAs" }).getByText("This model has no LoRA of that name.").waitFor();
    await assertAccessible(page);
    await tools.screenshot(page, "start-rejected");
    await page.getByLabel("Steps", { exact: true }).first().fill("40");
    assert.equal(await strength.getAttribute("aria-invalid"), "false");
    rejects = false;
  });

  for (const [name, options] of [
    ["start-image-phone", { viewport: { width: 375, height: 812 }, hasTouch: true, isMobile: true }],
    ["start-image-dark", { colorScheme: "dark" }],
  ] as const) {
    await t.test(`form with an image and LoRAs is accessible (${name})`, async () => {
      const { page, generate, done } = await open(options);
      await drop(page, {
        name: "a photo with a long name, as some cameras write it 2026-11-29.jpg",
        bytes: await photo(640, 480),
      });
      await start(page).getByText("640×480", { exact: true }).waitFor();
      const options_ = page.getByText("Options", { exact: true });
      if (!(await page.getByLabel("pixel-art-xl").isVisible())) {
        await options_.click();
      }
      await page.getByLabel("pixel-art-xl").check();
      await generate("a red heart");
      await done();
      await assertAccessible(page);
      await assertNoSidewaysScroll(page);
      await tools.screenshot(page, name, true);
    });
  }
}
