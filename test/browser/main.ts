import { test } from "node:test";
import { parseArgs } from "node:util";
import { buildPage } from "../../scripts/build-page.mjs";
import { testJobs } from "./jobs.js";
import { testJobsOfDev } from "./jobs-of-dev.js";
import { openBrowser } from "./open-browser.js";
import { createScreenshots } from "./page-checks.js";
import { testRealSystem } from "./real-system.js";
import { testScriptedServices } from "./scripted-services.js";
import { testStartImage } from "./start-image.js";

const { values } = parseArgs({ options: { screenshots: { type: "string" } } });
await buildPage();
const browser = await openBrowser();
const screenshot = createScreenshots(values.screenshots);

await test("studio in a browser", async (t) => {
  t.after(() => browser.close());
  await t.test("with scripted services", (inner) => testScriptedServices(inner, { browser, screenshot }));
  await t.test("with images to start from and LoRAs", (inner) => testStartImage(inner, { browser, screenshot }));
  await t.test("with jobs", (inner) => testJobs(inner, { browser, screenshot }));
  await t.test("with the jobs of dev", (inner) => testJobsOfDev(inner, { browser, screenshot }));
  await t.test("with the real system", (inner) => testRealSystem(inner, { browser, screenshot }));
});
