import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import type { TestContext } from "node:test";
import sharp from "sharp";
import { createPipelineClient } from "../../src/client/client.js";
import { exportFromJson } from "../../src/studio/otlp-http.js";
import { startCommand } from "../cli/support/run-command.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { assertAccessible, assertNoSidewaysScroll } from "./page-checks.js";
import { type BrowserTools, openStudioPage } from "./studio-page.js";

const spanNames = ["image-pipeline", "preprocess-prompt", "call-inference-worker", "inference", "diffusion", "upload"];

/** The page of `throughline dev`, with the embedded model. */
export async function testRealSystem(t: TestContext, tools: BrowserTools): Promise<void> {
  const dev = startCommand(t, [
    "dev",
    "--jobs",
    await temporaryFolder(),
    "--pipeline-port",
    "0",
    "--worker-port",
    "0",
    "--collector-port",
    "0",
    "--device",
    "cpu",
  ]);
  const url = (await dev.waitFor(/^(?:studio|pipeline) +(http:\/\/\S+)/m))[1] ?? assert.fail("no URL");
  const pipeline = createPipelineClient({ baseUrl: url });

  await t.test("first load is small and keeps its content security policy", async (t) => {
    const { page, complaints } = await openStudioPage(t, tools, "about:blank");
    const session = await page.context().newCDPSession(page);
    await session.send("Network.enable");
    let bytes = 0;
    session.on("Network.loadingFinished", ({ encodedDataLength }) => {
      bytes += encodedDataLength;
    });
    const response = await page.goto(url, { waitUntil: "load" });
    await page.getByRole("button", { name: "Generate" }).waitFor();
    const policy = response?.headers()["content-security-policy"] ?? "";
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /script-src 'self'(;|$)/);
    assert.ok(bytes > 10_000 && bytes < 100_000, `${bytes} bytes over the wire`);
    t.diagnostic(`first load: ${bytes} bytes over the wire`);
    assert.deepEqual(complaints, []);
  });

  await t.test("image progress is shown, and its trace grows beside it", async (t) => {
    const studio = await openStudioPage(t, tools, url, { reducedMotion: "no-preference" });
    const { page } = studio;
    await page.getByText("Connected").waitFor();
    const previews = new Set<string>();
    await page.getByLabel("Steps", { exact: true }).first().fill("40");
    await studio.generate("a red heart, 3d style");
    await page.getByRole("img", { name: /^Preview of/ }).waitFor();
    while (previews.size < 3) {
      const source = (await page.locator(".frame img").getAttribute("src")) ?? "";
      previews.add(source);
      await page.locator(`.frame.is-forming img:not([src="${source}"])`).waitFor();
    }
    await page.getByRole("treeitem", { name: /^diffusion\b.*running/ }).waitFor();
    await tools.screenshot(page, "forming");
    await studio.done();
    await page
      .getByText(/^6 spans/)
      .first()
      .waitFor();

    const names = await page.locator(".span-name").allTextContents();
    assert.deepEqual(names.sort(), [...spanNames].sort());
    const colours = await page.evaluate<string[]>(
      "[...document.querySelectorAll('.bar')].map((bar) => getComputedStyle(bar).backgroundColor)",
    );
    assert.equal(new Set(colours).size, 2);

    await page.getByRole("treeitem", { name: /^diffusion/ }).click();
    const details = page.getByRole("region", { name: "Span diffusion" });
    await details.getByText("diffusion.steps").waitFor();
    for (const event of ["text-encoding", "denoising", "vae-decode"]) {
      await details.getByText(event, { exact: true }).waitFor();
    }
    await page.keyboard.press("Home");
    await page.keyboard.press("ArrowDown");
    await page.getByRole("region", { name: "Span preprocess-prompt" }).getByText("prompt.length").waitFor();
    await page.keyboard.press("End");
    await page.keyboard.press("ArrowLeft");
    await page.getByRole("region", { name: "Span inference" }).getByText("model.name").waitFor();
    assert.deepEqual(studio.complaints, []);
  });

  await t.test("spans of a trace can be searched, collapsed and zoomed", async (t) => {
    const studio = await openStudioPage(t, tools, url);
    const { page } = studio;
    await page.getByLabel("Seed", { exact: true }).fill("4242");
    await studio.generate("a red heart");
    await studio.done();
    await page
      .getByText(/^6 spans/)
      .first()
      .waitFor();
    const item = (name: string) => page.getByRole("treeitem", { name: new RegExp(`^${name}`) });

    await page.getByLabel("Search spans").fill("seed=4242");
    await page.getByLabel("Search spans").press("Enter");
    await page.getByRole("region", { name: "Span diffusion" }).getByText("diffusion.seed").waitFor();
    assert.equal(await page.locator(".row.is-match").count(), 1);
    await tools.screenshot(page, "waterfall-search");
    await page.getByLabel("Search spans").fill("");

    await item("inference").click();
    await page.keyboard.press("ArrowLeft");
    await item("diffusion").waitFor({ state: "detached" });
    assert.equal(await item("inference").getAttribute("aria-expanded"), "false");
    await page.getByLabel("Search spans").fill("upload");
    await item("upload").waitFor();
    await page.getByLabel("Search spans").fill("");
    await page.getByRole("button", { name: "Expand all" }).click();
    await item("diffusion").waitFor();

    const lane = await item("image-pipeline").locator(".lane").boundingBox();
    assert.ok(lane !== null);
    const middle = lane.y + lane.height / 2;
    await page.mouse.move(lane.x + lane.width * 0.25, middle);
    await page.mouse.down();
    await page.mouse.move(lane.x + lane.width * 0.5, middle, { steps: 4 });
    await page.locator(".zoom-selection").waitFor();
    await tools.screenshot(page, "waterfall-zoom");
    await page.mouse.up();
    await page.getByRole("button", { name: "Whole trace" }).waitFor();
    const bar = await item("image-pipeline").locator(".bar").boundingBox();
    assert.ok(bar !== null && Math.abs(bar.width - lane.width) < 2, "the root fills the part that is shown");
    assert.ok((await page.locator(".bar").count()) < 6, "spans outside have no bar");
    await item("image-pipeline").press("0");
    await page.getByRole("button", { name: "Whole trace" }).waitFor({ state: "detached" });
    await item("upload").click();
    await page.keyboard.press("z");
    await page.getByRole("button", { name: "Whole trace" }).click();
    assert.equal(await page.locator(".bar").count(), 6);
    assert.deepEqual(studio.complaints, []);
  });

  await t.test("service graph shows the apps and their calls, also as a table", async (t) => {
    const { page } = await openStudioPage(t, tools, url);
    await page.getByRole("img", { name: /^2 apps/ }).waitFor();
    await page.getByText("As a table").click();
    const row = page.getByRole("row", { name: /image-pipeline text-to-image-worker/ });
    assert.match((await row.textContent()) ?? "", /per min.*p95/);
  });

  await t.test(
    "history survives a reload, and an image can be generated again, varied, shared and downloaded",
    async (t) => {
      const studio = await openStudioPage(t, tools, url);
      const { page } = studio;
      await page.getByLabel("Seed").fill("7");
      await page.getByLabel("Steps", { exact: true }).first().fill("6");
      await studio.generate("a slice of pizza");
      assert.equal(await studio.done(), 7);
      const pixels = () => page.evaluate<string>(imagePixels);
      const first = await pixels();
      await page.reload();
      await page
        .getByText(/^6 spans/)
        .first()
        .waitFor();
      await page.getByRole("button", { name: "a slice of pizza, seed 7" }).click();
      await page
        .getByText(/^6 spans/)
        .first()
        .waitFor();
      assert.equal(await pixels(), first);

      await page.getByRole("button", { name: "Again" }).click();
      assert.equal(await studio.done(), 7);
      await page.getByText("2 images").waitFor();
      assert.equal(await pixels(), first);
      await page.getByRole("button", { name: "Vary" }).click();
      await page.getByText("3 images").waitFor();
      assert.notEqual(await pixels(), first);

      await page.getByRole("button", { name: "a slice of pizza, seed 7" }).first().click();
      await page.getByRole("button", { name: "Copy Link" }).click();
      const link = await page.evaluate<string>("navigator.clipboard.readText()");
      const shared = await openStudioPage(t, tools, link);
      assert.equal(await shared.page.getByLabel("Prompt", { exact: true }).inputValue(), "a slice of pizza");
      assert.equal(await shared.page.getByLabel("Seed").inputValue(), "7");
      await shared.page.getByText("Connected").waitFor();
      assert.equal(
        await shared.page.getByRole("button", { name: "Cancel" }).count(),
        0,
        "a link does not generate by itself",
      );
      assert.equal(await shared.page.locator(".frame img").count(), 0);

      const downloading = page.waitForEvent("download");
      await page.getByRole("link", { name: "Download" }).click();
      assert.equal((await downloading).suggestedFilename(), "a-slice-of-pizza-seed-7.png");

      const id = (await page.locator(".trace-id").textContent()) ?? "";
      const trace = page.getByRole("region", { name: "Trace", exact: true });
      await trace.getByRole("button", { name: "Copy as OTLP JSON" }).click();
      await trace.getByRole("button", { name: "Copied" }).waitFor();
      const copied = await page.evaluate<string>("navigator.clipboard.readText()");
      const exported = page.waitForEvent("download");
      await trace.getByRole("button", { name: "Download OTLP JSON" }).click();
      const file = await exported;
      assert.equal(file.suggestedFilename(), `trace-${id}.json`);
      assert.equal(await readFile(await file.path(), "utf8"), copied);
      const sent = exportFromJson(copied).resourceSpans.flatMap(({ scopeSpans }) =>
        scopeSpans.flatMap(({ spans }) => spans),
      );
      assert.equal(sent.length, 6);
      assert.doesNotMatch(copied, /pizza/);
    },
  );

  await t.test("result becomes the start of the next image, which stays near it", async (t) => {
    const studio = await openStudioPage(t, tools, url);
    const { page } = studio;
    await page.getByText("Connected").waitFor();
    await page.getByLabel("Seed").fill("7");
    await studio.generate("a red heart");
    assert.equal(await studio.done(), 7);
    const pixels = async () => {
      const [, png = ""] = (await page.evaluate<string>(imagePixels)).split(",");
      return sharp(Buffer.from(png, "base64")).raw().toBuffer();
    };
    const source = await pixels();
    await page.getByRole("button", { name: "Start from it" }).click();
    await page.getByText("128×128", { exact: true }).waitFor();
    const distances: number[] = [];
    for (const [index, strength] of ["0.3", "0.9"].entries()) {
      await page.getByLabel("Strength", { exact: true }).fill(strength);
      await page.getByLabel("Seed", { exact: true }).fill(String(100 + index));
      await studio.generate("a yellow star");
      await page.getByText(`${index + 2} images`).waitFor();
      await page.getByText(`strength ${strength}`).waitFor();
      const changed = await pixels();
      assert.equal(changed.length, source.length);
      distances.push(changed.reduce((sum, value, at) => sum + Math.abs(value - (source[at] ?? 0)), 0) / source.length);
    }
    const [near = 0, far = 0] = distances;
    t.diagnostic(`mean distance to the start: ${near.toFixed(1)} at 0.3, ${far.toFixed(1)} at 0.9`);
    assert.ok(near > 0 && near < far, distances.join());
    await page.getByRole("treeitem", { name: /^diffusion/ }).click();
    await page.getByRole("region", { name: "Span diffusion" }).getByText("diffusion.strength").waitFor();
    await page.getByLabel("Strength", { exact: true }).fill("0.01");
    await studio.generate("a yellow star");
    await page.getByText(/^0\.01 of \d+ steps leaves none to run/).waitFor();
    await tools.screenshot(page, "start-real");
    assert.deepEqual(studio.complaints, []);
  });

  await t.test("Escape cancels the generation, also in the service", async (t) => {
    const studio = await openStudioPage(t, tools, url);
    const { page } = studio;
    await page.getByLabel("Steps", { exact: true }).first().fill("150");
    await studio.generate("a red heart");
    await page.getByText(/step [1-9]\d* of 150/).waitFor();
    await page.keyboard.press("Escape");
    await page
      .getByText(/^Cancelled at step \d+ of 150\.$/)
      .first()
      .waitFor();
    await page.getByRole("treeitem", { name: /^inference/ }).waitFor();
    await page.locator(".waterfall:not(:has(.is-running))").waitFor();
    const upload = await page.getByRole("treeitem", { name: /^upload/ }).count();
    assert.equal(upload, 0, "the service stopped before the image was done");
    // A cancel is no failure.
    assert.equal(await page.getByRole("alert").count(), 0);
  });

  await t.test("traces of other callers can be opened", async (t) => {
    const { page } = await openStudioPage(t, tools, url);
    await page.getByText("Connected").waitFor();
    const { traceId } = await pipeline.generate({ prompt: "a red heart", options: { numInferenceSteps: 2 } });
    await page.getByRole("button", { name: traceId.slice(0, 8) }).click();
    await page
      .getByText(/^6 spans/)
      .first()
      .waitFor();
    assert.equal(await page.locator(".trace-id").textContent(), traceId);
  });

  await t.test("page can be used with the keyboard only", async (t) => {
    const { page } = await openStudioPage(t, tools, url);
    const focused = () => page.evaluate<string>("(document.activeElement.id || document.activeElement.textContent)");
    const tabTo = async (wanted: RegExp) => {
      for (let presses = 0; presses < 60; presses++) {
        await page.keyboard.press("Tab");
        if (wanted.test(await focused())) {
          const outline = await page.evaluate<string>("getComputedStyle(document.activeElement).outlineStyle");
          assert.notEqual(outline, "none", `${wanted} shows that it has the focus`);
          return;
        }
      }
      assert.fail(`the tabulator key never comes to ${wanted}`);
    };
    await tabTo(/^prompt$/);
    await page.keyboard.type("a red heart");
    await tabTo(/^steps$/);
    await page.keyboard.type("4");
    await page.keyboard.press("Control+Enter");
    await page.getByText(/^The image is done/).waitFor({ state: "attached" });
    await page
      .getByText(/^6 spans/)
      .first()
      .waitFor();
    await tabTo(/^image-pipeline, image-pipeline/);
    for (const name of ["preprocess-prompt", "call-inference-worker", "inference"]) {
      await page.keyboard.press("ArrowDown");
      await page.getByRole("region", { name: `Span ${name}` }).waitFor();
    }
    await assertAccessible(page);
  });

  for (const colorScheme of ["light", "dark"] as const) {
    await t.test(`page is readable with ${colorScheme} colors on desktop and phone`, async (t) => {
      for (const [name, viewport] of [
        ["desktop", { width: 1440, height: 900 }],
        ["phone", { width: 360, height: 780 }],
      ] as const) {
        const studio = await openStudioPage(t, tools, url, { viewport, colorScheme, hasTouch: name === "phone" });
        const { page } = studio;
        await page.getByText("Connected").waitFor();
        for (const prompt of [
          "a smiling face with sunglasses, 3d style",
          "a slice of pizza, 3d style",
          "a red heart, 3d style",
        ]) {
          await studio.generate(prompt);
          await page.getByText(prompt, { exact: true }).and(page.locator(".caption")).waitFor();
        }
        await page
          .getByText(/^6 spans/)
          .first()
          .waitFor();
        await page.getByRole("treeitem", { name: /^diffusion/ }).click();
        await assertNoSidewaysScroll(page);
        await assertAccessible(page);
        await page.evaluate("scrollTo(0, 0)");
        await tools.screenshot(page, `${name}-${colorScheme}`, name === "phone");
        assert.deepEqual(studio.complaints, []);
      }
    });
  }

  await t.test("theme can be set to dark or light and is kept", async (t) => {
    const { page } = await openStudioPage(t, tools, url, { colorScheme: "light" });
    const paper = () => page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
    const light = await paper();
    await page.getByRole("button", { name: "Theme: system" }).click();
    await page.getByRole("button", { name: "Theme: light" }).click();
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    assert.notEqual(await paper(), light);
    await page.reload();
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    assert.notEqual(await paper(), light);
  });
}

/** Expression for the pixels of the image in the frame, as text. */
const imagePixels = `(async () => {
  const image = document.querySelector(".frame img");
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL();
})()`;
