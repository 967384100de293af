import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";

/** What the tests of a page are given. */
export interface BrowserTools {
  readonly browser: Browser;
  /** Takes an image for people to look at, where they asked for it. */
  readonly screenshot: (page: Page, name: string, fullPage?: boolean) => Promise<void>;
}

/** The page of a studio with what a person does on it. */
export interface StudioPage {
  readonly page: Page;
  /** What the browser complained of so far: errors, and what the page's policy rejected. */
  readonly complaints: readonly string[];
  /** Fills the prompt and presses Ctrl+Enter. */
  generate(prompt: string): Promise<void>;
  /** Resolves when the image is done: its seed. */
  done(): Promise<number>;
}

/** Opens the page in a browser's profile of its own. */
export async function openStudioPage(
  t: TestContext,
  { browser }: BrowserTools,
  url: string,
  options: BrowserContextOptions = {},
): Promise<StudioPage> {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    reducedMotion: "reduce",
    permissions: ["clipboard-read", "clipboard-write"],
    ...options,
  });
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  await page.goto(url);
  return {
    page,
    complaints,
    async generate(prompt) {
      await page.getByLabel("Prompt", { exact: true }).fill(prompt);
      await page.keyboard.press("Control+Enter");
    },
    async done() {
      const words = page.getByText(/^The image is done, in .*, with seed \d+$/);
      await words.waitFor({ state: "attached" });
      return Number(/seed (\d+)$/.exec((await words.textContent()) ?? "")?.[1] ?? assert.fail("no seed"));
    },
  };
}
