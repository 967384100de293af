// Compiles src into dist, file by file and without type checks: what the commands of a checkout run. `npm run build` makes the package's dist.
import { readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const checkout = fileURLToPath(new URL("..", import.meta.url));

/** An empty file, written last: sources that are newer are not in dist. */
const stampOf = (root) => join(root, "dist/.compiled");

/** Only development has the bundler: `npm ci --omit=dev` goes without. */
const esbuild = () =>
  import("esbuild").catch((error) => {
    if (error.code === "ERR_MODULE_NOT_FOUND") {
      return undefined;
    }
    throw error;
  });

const isSource = (name) => /\.tsx?$/.test(name) && !name.endsWith(".d.ts") && !/^page[\\/]/.test(name);

/** The sources as they are now: their names, and the time of the newest change of any of them. */
async function readSources(root) {
  const source = join(root, "src");
  const names = (await readdir(source, { recursive: true })).filter(isSource);
  const times = await Promise.all(names.map(async (name) => (await stat(join(source, name))).mtimeMs));
  return { names, newest: Math.max(...times) };
}

/** Whether dist is older than the sources; undefined where it was never compiled. */
export async function isStale(root = checkout) {
  const compiled = await stat(stampOf(root)).catch(() => undefined);
  return compiled === undefined ? undefined : (await readSources(root)).newest > compiled.mtimeMs;
}

/**
 * Compiles all sources.
 *
 * @returns false where the compiler, a development dependency, is not installed.
 */
export async function compile(root = checkout) {
  const { build } = (await esbuild()) ?? {};
  if (build === undefined) {
    return false;
  }
  const { names } = await readSources(root);
  await rm(stampOf(root), { force: true });
  await build({
    absWorkingDir: root,
    entryPoints: names.map((name) => join("src", name)),
    outbase: "src",
    outdir: "dist",
    format: "esm",
    platform: "node",
    target: "node20",
    sourcemap: "linked",
    sourcesContent: false,
    logLevel: "warning",
  });
  await writeFile(stampOf(root), "");
  return true;
}
