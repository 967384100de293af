import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const usualNames = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/**
 * Starts the Chromium of this machine: that of the variable CHROMIUM, or the first of the usual names on the path.
 *
 * @throws Error where there is none.
 */
export async function openBrowser(): Promise<Browser> {
  const { CHROMIUM, PATH = "" } = process.env;
  const found = PATH.split(delimiter).flatMap((folder) => usualNames.map((name) => join(folder, name)));
  const executablePath = CHROMIUM ?? found.find((path) => existsSync(path));
  if (executablePath === undefined) {
    throw new Error(
      "there is no Chromium here: install one (Debian's package is chromium), or name it by CHROMIUM=<path>",
    );
  }
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}
