import assert from "node:assert/strict";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type RunningCommand, startCommand } from "../cli/support/run-command.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { type BrowserTools, openStudioPage } from "./studio-page.js";

const heart = "a red heart, 3d style";
const prompts = [heart, "a slice of pizza", "a smiling face"];

/** Jobs of `throughline dev`, with the embedded model and the embedded database, through a kill of all processes. */
export async function testJobsOfDev(t: TestContext, tools: BrowserTools): Promise<void> {
  const folder = join(await temporaryFolder(), "jobs");
  const start = async (pipelinePort: string): Promise<{ readonly dev: RunningCommand; readonly url: string }> => {
    const ports = ["--pipeline-port", pipelinePort, "--worker-port", "0", "--collector-port", "0"];
    const dev = startCommand(t, ["dev", "--jobs", folder, "--device", "cpu", ...ports]);
    return { dev, url: (await dev.waitFor(/^(?:studio|pipeline) +(http:\/\/\S+)/m))[1] ?? assert.fail("no URL") };
  };
  const first = await start("0");

  await t.test("jobs that are submitted in the page outlive a kill of all processes", async (t) => {
    const { page } = await openStudioPage(t, tools, first.url);
    page.setDefaultTimeout(120_000);
    await page.getByText("Connected").waitFor();
    const row = (prompt: string) => page.locator(".job", { hasText: prompt });
    for (const prompt of prompts) {
      await page.getByLabel("Prompt", { exact: true }).fill(prompt);
      await page.getByRole("button", { name: "Submit as job" }).click();
      await row(prompt).waitFor();
    }
    await page.getByRole("progressbar").waitFor();
    await tools.screenshot(page, "dev-jobs");
    first.dev.killGroup("SIGKILL");
    await first.dev.gone();
    await page.getByText("The service cannot be reached.").first().waitFor();
    await start(new URL(first.url).port);
    for (const prompt of prompts) {
      await row(prompt)
        .getByText(/^Done in/)
        .waitFor();
      await page.getByRole("button", { name: `Show: ${prompt}` }).click();
      await page.locator("#image").getByRole("img", { name: prompt, exact: true }).waitFor();
    }
    assert.equal(await page.locator(".job").count(), prompts.length);
  });

  await t.test("the trace of a job goes on from its submission to its image", async (t) => {
    const { page, complaints } = await openStudioPage(t, tools, first.url);
    page.setDefaultTimeout(120_000);
    await page.getByLabel("Prompt", { exact: true }).fill("a green leaf");
    await page.getByRole("button", { name: "Submit as job" }).click();
    await page.getByRole("link", { name: "Trace: a green leaf" }).click();
    await page
      .locator(".job", { hasText: "a green leaf" })
      .getByText(/^Done in/)
      .waitFor();
    await page
      .getByText(/^8 spans/)
      .first()
      .waitFor();
    const names = await page.locator(".span-name").allTextContents();
    assert.deepEqual(names.sort(), [
      "call-inference-worker",
      "diffusion",
      "image-pipeline",
      "inference",
      "preprocess-prompt",
      "process",
      "send",
      "upload",
    ]);
    await page.getByRole("button", { name: "Show: a green leaf" }).click();
    await page.locator("#image").getByRole("img", { name: "a green leaf", exact: true }).waitFor();
    await tools.screenshot(page, "dev-job-trace", true);
    assert.deepEqual(complaints, []);
  });

  await t.test("another browser shows all jobs of the server", async (t) => {
    const { page } = await openStudioPage(t, tools, first.url);
    await page.getByRole("heading", { name: "Jobs" }).click();
    await page.getByText(`${prompts.length + 1} jobs`).waitFor();
    await page.getByRole("button", { name: `Show: ${heart}` }).click();
    await page.locator("#image").getByRole("img", { name: heart, exact: true }).waitFor();
  });
}
