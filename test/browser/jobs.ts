import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Locator, Page } from "playwright-core";
import sharp from "sharp";
import { createTestMesh } from "../../src/testing/testing.js";
import { startJobMesh } from "../support/job-mesh.js";
import { startJobPages } from "./job-pages.js";
import { assertAccessible, assertNoSidewaysScroll } from "./page-checks.js";
import { createSteppedEngine } from "./stepped-engine.js";
import { type BrowserTools, openStudioPage } from "./studio-page.js";

const titleOf = (page: Page) => page.getByRole("heading", { name: "Jobs" });
/** Row of the job with this prompt. */
const rowOf = (page: Page, prompt: string): Locator =>
  page.getByRole("listitem").filter({ has: page.locator(".caption").filter({ hasText: new RegExp(`^${prompt}$`) }) });

async function submit(page: Page, prompt: string): Promise<void> {
  await page.getByLabel("Prompt", { exact: true }).fill(prompt);
  await page.getByRole("button", { name: "Submit as job" }).click();
  await rowOf(page, prompt).waitFor();
}

/** Expression for the width of the first job's image, in its own pixels. */
const thumbnailWidth = `(async () => {
  const image = document.querySelector(".job img");
  await image.decode();
  return image.naturalWidth;
})()`;

/** Jobs of a pipeline with an embedded database in memory and a fake engine. */
export async function testJobs(t: TestContext, tools: BrowserTools): Promise<void> {
  const { engine, allow } = createSteppedEngine();
  const mesh = await startJobMesh({ engines: [engine] });
  const server = await startJobPages(mesh.url);
  t.after(async () => {
    await server.stop();
    await mesh.stop();
  });

  await t.test("jobs are asked for when their panel is opened, and by a page that had it open", async (t) => {
    const { page, complaints } = await openStudioPage(t, tools, server.url);
    await titleOf(page).waitFor();
    await page.getByText("Model fake").waitFor();
    const asked = () => server.calls.filter((call) => /Jobs?$/.test(call));
    assert.deepEqual(asked(), [], "the first call would open the database");
    await titleOf(page).click();
    await page.getByText("None yet.").waitFor();
    assert.deepEqual(asked(), ["ListJobs"]);
    await page.reload();
    await page.getByText("None yet.").waitFor();
    await titleOf(page).click();
    await page.reload();
    await titleOf(page).waitFor();
    await page.getByText("Model fake").waitFor();
    assert.deepEqual(asked(), ["ListJobs", "ListJobs"]);
    assert.deepEqual(complaints, []);
  });

  await t.test("a job shows its place, its progress with a preview, and its image; a cancel ends it", async (t) => {
    const { page, complaints } = await openStudioPage(t, tools, server.url);
    await submit(page, "held red heart");
    const heart = rowOf(page, "held red heart");
    await heart.getByRole("progressbar").waitFor();
    allow("held red heart", 3);
    await heart.getByText(/^step [23] of 4/).waitFor();
    await heart.getByRole("button", { name: "Show: held red heart" }).locator("img").waitFor();

    await submit(page, "a slice of pizza");
    await page.getByLabel("Priority of jobs").selectOption("High: before all others");
    await submit(page, "a kite");
    await rowOf(page, "a kite")
      .getByText(/^Waiting: next in line, begins in about/)
      .waitFor();
    await rowOf(page, "a slice of pizza")
      .getByText(/^Waiting: 1 before you, begins in about/)
      .waitFor();
    await rowOf(page, "a kite").getByText("high priority").waitFor();
    await page.getByText("3 jobs, 1 running, 2 waiting").waitFor();
    const prompts = await page.locator(".job .caption").allTextContents();
    assert.deepEqual(prompts, ["a kite", "a slice of pizza", "held red heart"], "the newest is first");
    await heart.getByRole("button", { name: "Show: held red heart" }).click();
    await page.locator("#image").getByRole("img", { name: "Preview of: held red heart" }).waitFor();
    await assertAccessible(page);
    await tools.screenshot(page, "jobs", true);

    await page.getByRole("button", { name: "Cancel: a slice of pizza" }).click();
    await rowOf(page, "a slice of pizza").getByText("Cancelled").waitFor();
    await page.getByText("Job cancelled: a slice of pizza").waitFor({ state: "attached" });
    await submit(page, "held kiwi");
    allow("held red heart", 4);
    // It was opened: its image takes the place of the preview.
    await page.locator("#image").getByRole("img", { name: "held red heart", exact: true }).waitFor();
    await rowOf(page, "held red heart")
      .getByText(/^Done in/)
      .waitFor();
    await rowOf(page, "a kite")
      .getByText(/^Done in/)
      .waitFor();
    await rowOf(page, "held kiwi").getByRole("progressbar").waitFor();
    await page.getByRole("button", { name: "Cancel: held kiwi" }).click();
    await rowOf(page, "held kiwi").getByText("Cancelled").waitFor();
    assert.equal(
      await page.getByText("1 image", { exact: false }).count(),
      0,
      "the browser's history has none of them",
    );
    assert.deepEqual(complaints, []);
  });

  await t.test("a failed job shows its error", async (t) => {
    const { page } = await openStudioPage(t, tools, server.url);
    await submit(page, "broken heart");
    await rowOf(page, "broken heart").getByText("Failed").waitFor();
    await rowOf(page, "broken heart")
      .getByText(/^INTERNAL: \w/)
      .waitFor();
  });

  await t.test("a browser that has never been here shows the server's jobs and their images", async (t) => {
    const { page, complaints } = await openStudioPage(t, tools, server.url);
    await titleOf(page).click();
    await rowOf(page, "a kite").waitFor();
    assert.equal(await page.locator(".job").count(), 5);
    await rowOf(page, "a kite").locator("img").waitFor();
    assert.equal(await page.evaluate<number>(thumbnailWidth), 64);
    await page.getByRole("button", { name: "Show: a kite" }).click();
    await page.locator("#image").getByRole("img", { name: "a kite", exact: true }).waitFor();
    await page.getByText(/^seed \d+ · 64×64 · .* · fake on none$/).waitFor();
    const downloading = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download" }).click();
    assert.match((await downloading).suggestedFilename(), /^a-kite-seed-\d+\.png$/);
    const link = page.getByRole("link", { name: "Trace: a kite" });
    assert.match((await link.getAttribute("href")) ?? "", /^http:\/\/127\.0\.0\.1:16686\/trace\/[0-9a-f]{32}$/);
    assert.deepEqual(complaints, []);
  });

  await t.test("Again fills the form with the request and its seed", async (t) => {
    const { page } = await openStudioPage(t, tools, server.url);
    await page.getByLabel("Steps", { exact: true }).first().fill("3");
    await page.getByLabel("Negative prompt").fill("blue");
    await submit(page, "a boat");
    await page.getByLabel("Steps", { exact: true }).first().fill("");
    await page.getByLabel("Negative prompt").fill("");
    await page.getByRole("button", { name: "Again: a boat" }).click();
    const value = (label: string) => page.getByLabel(label, { exact: true }).first().inputValue();
    assert.deepEqual(
      [await value("Prompt"), await value("Steps"), await value("Negative prompt"), await value("Width, px")],
      ["a boat", "3", "blue", ""],
    );
    assert.match(await value("Seed"), /^\d+$/);
    assert.equal(await page.evaluate("document.activeElement.id"), "prompt");
  });

  await t.test("a job starts from an image, which only the page that submitted it still has", async (t) => {
    const { page } = await openStudioPage(t, tools, server.url);
    const buffer = await sharp({ create: { width: 64, height: 64, channels: 3, background: "#2060c0" } })
      .png()
      .toBuffer();
    await page.locator("input[type=file]").setInputFiles({ name: "blue.png", mimeType: "image/png", buffer });
    await page.getByText("blue.png", { exact: true }).waitFor();
    await submit(page, "a house");
    await rowOf(page, "a house")
      .getByText(/^Done in/)
      .waitFor();
    await page.getByRole("button", { name: "Remove the start image" }).click();
    await page.getByRole("button", { name: "Again: a house" }).click();
    await page.getByText("blue.png", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Show: a house" }).click();
    await page.getByText("from blue.png, strength 0.3").waitFor();

    const other = await openStudioPage(t, tools, server.url);
    await titleOf(other.page).click();
    await other.page.getByRole("button", { name: "Again: a house" }).click();
    await other.page.getByText("The job started from an image that the service does not return").waitFor();
  });

  await t.test("a job is deleted with its image once that is confirmed", async (t) => {
    const { page } = await openStudioPage(t, tools, server.url);
    await submit(page, "a cup");
    await rowOf(page, "a cup")
      .getByText(/^Done in/)
      .waitFor();
    const path = (await rowOf(page, "a cup").locator("img").getAttribute("src")) ?? assert.fail("no image");
    const url = new URL(path, server.url);
    assert.equal((await fetch(url)).status, 200);
    await page.getByRole("button", { name: "Show: a cup" }).click();
    await page.locator("#image").getByRole("img", { name: "a cup", exact: true }).waitFor();
    const confirm = page.getByRole("group", { name: "Delete: a cup" });
    await page.getByRole("button", { name: "Delete: a cup" }).press("Enter");
    await page.locator("button:focus", { hasText: "Keep" }).waitFor();
    await page.keyboard.press("Enter");
    await confirm.waitFor({ state: "detached" });
    await page.locator("button[aria-label='Delete: a cup']:focus").waitFor();
    await page.keyboard.press("Enter");
    await confirm.getByRole("button", { name: "Delete" }).click();
    await rowOf(page, "a cup").waitFor({ state: "detached" });
    assert.equal(await page.evaluate("document.activeElement.tagName"), "SUMMARY");
    assert.equal((await fetch(url)).status, 404);
    assert.equal(await page.locator("#image").getByRole("img", { name: "a cup", exact: true }).count(), 0);
  });

  await t.test("jobs go on without the page, and the page finds them when the service is back", async (t) => {
    const { page } = await openStudioPage(t, tools, server.url);
    await page.getByLabel("Steps", { exact: true }).first().fill("150");
    await submit(page, "held lamp");
    await rowOf(page, "held lamp").getByRole("progressbar").waitFor();
    const lost = page.locator(".jobs").getByText("The service could not be reached.");
    server.setReachable(false);
    await lost.waitFor();
    await rowOf(page, "held lamp").waitFor();
    server.setReachable(true);
    await lost.waitFor({ state: "detached" });
    // A new watch knows the next step, not the last one.
    const step = rowOf(page, "held lamp").getByText(/^step \d+ of 150/);
    for (let allowed = 1; (await step.count()) === 0; allowed++) {
      allow("held lamp", allowed);
    }
    server.setReachable(false);
    await lost.waitFor();
    allow("held lamp", 150);
    server.setReachable(true);
    await rowOf(page, "held lamp")
      .getByText(/^Done in/)
      .waitFor();
  });

  await t.test("a page that is hidden, and a panel that is closed, follow no jobs", async (t) => {
    const { page } = await openStudioPage(t, tools, server.url);
    await submit(page, "held moon");
    await rowOf(page, "held moon").getByRole("progressbar").waitFor();
    const opened = async (count: number) => {
      while (server.open("WatchJob") !== count) {
        await page.evaluate("new Promise(requestAnimationFrame)");
      }
    };
    await opened(1);
    const hide = (hidden: boolean) =>
      page.evaluate(`Object.defineProperty(document, "hidden", { value: ${hidden}, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"))`);
    await hide(true);
    await opened(0);
    await hide(false);
    await opened(1);
    await titleOf(page).click();
    await opened(0);
    allow("held moon", 4);
    await titleOf(page).click();
    await rowOf(page, "held moon")
      .getByText(/^Done in/)
      .waitFor();
    await opened(0);
  });

  for (const colorScheme of ["light", "dark"] as const) {
    await t.test(`jobs are readable with ${colorScheme} colors, also on a phone`, async (t) => {
      for (const [name, viewport] of [
        ["desktop", { width: 1440, height: 900 }],
        ["phone", { width: 360, height: 780 }],
      ] as const) {
        const { page } = await openStudioPage(t, tools, server.url, {
          viewport,
          colorScheme,
          hasTouch: name === "phone",
        });
        await titleOf(page).click();
        await page.getByRole("button", { name: "Show: a kite" }).click();
        await page.locator("#image").getByRole("img", { name: "a kite", exact: true }).waitFor();
        await page.getByRole("button", { name: "Delete: a boat" }).click();
        await assertNoSidewaysScroll(page);
        await assertAccessible(page);
        await tools.screenshot(page, `jobs-${name}-${colorScheme}`, true);
      }
    });
  }

  await t.test("a pipeline without jobs shows nothing of them", async (t) => {
    const plain = await createTestMesh({ wire: "port" });
    const pages = await startJobPages(plain.pipelineUrl, false);
    t.after(async () => {
      await pages.stop();
      await plain.stop();
    });
    const { page, generate, done } = await openStudioPage(t, tools, pages.url);
    await generate("a red heart");
    await done();
    assert.ok(!pages.calls.includes("ListJobs"));
    assert.equal(await page.getByText("Submit as job").count(), 0);
    assert.equal(await titleOf(page).count(), 0);
  });
}
