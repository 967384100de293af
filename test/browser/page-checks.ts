import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { AxeResults } from "axe-core";
import type { Page } from "playwright-core";

const axeSource = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe-core finds wrong with the page as it is, serious and critical things only: none. */
export async function assertAccessible(page: Page): Promise<void> {
  // By the debugging protocol: the page's own policy lets no foreign script in.
  await page.evaluate(axeSource);
  const results: AxeResults = await page.evaluate("axe.run()");
  const wrong = results.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, help, nodes }) =>
        `${id}: ${help}\n  ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n  ")}`,
    );
  assert.deepEqual(wrong, []);
}

/** The page can be read without moving it sideways. */
export async function assertNoSidewaysScroll(page: Page): Promise<void> {
  const widths = await page.evaluate<{ readonly scroll: number; readonly client: number }>(
    "({ scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth })",
  );
  assert.equal(widths.scroll, widths.client);
}

/** Takes images of pages into a folder; none without a folder. */
export function createScreenshots(folder: string | undefined) {
  return async (page: Page, name: string, fullPage = false): Promise<void> => {
    if (folder !== undefined) {
      await mkdir(folder, { recursive: true });
      await page.screenshot({ path: join(folder, `${name}.png`), fullPage, animations: "disabled" });
    }
  };
}
