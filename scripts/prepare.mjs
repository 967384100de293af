// Compiles the commands and builds the studio's page where a source is newer than what was made of it.
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { compile, isStale } from "./compile.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const modified = async (path) => (await stat(path)).mtimeMs;

async function isPageStale() {
  const built = await modified(join(root, "dist/page/studio.js")).catch(() => 0);
  const folder = join(root, "src/page");
  const times = await Promise.all(
    (await readdir(folder, { recursive: true })).map((name) => modified(join(folder, name))),
  );
  return times.some((time) => time > built);
}

/**
 * Brings `dist` up to date.
 *
 * @param tests modules that are compiled with the sources, whether those have changed or not. @default none
 * @returns false where something is to be compiled and the compiler, a development dependency, is not installed.
 */
export async function prepare(tests = []) {
  const commands = (await isStale()) !== false;
  if ((commands || tests.length > 0) && !(await compile(root, tests))) {
    return false;
  }
  if (commands || (await isPageStale())) {
    const { buildPage } = await import("./build-page.mjs");
    await buildPage();
  }
  return true;
}
