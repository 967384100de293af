// Compiles src into dist, without type checks and with the packages: what the commands of a checkout run. `npm run build` makes the package's dist.
import { createHash } from "node:crypto";
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundle } from "./bundle.mjs";

const checkout = fileURLToPath(new URL("..", import.meta.url));

/** Written last, with the packages that went into dist: sources that are newer are not in dist. */
const stampOf = (root) => join(root, "dist/.compiled");

const isSource = (name) => /\.tsx?$/.test(name) && !name.endsWith(".d.ts") && !/^page[\\/]/.test(name);

/** The sources as they are now: their names, and the time of the newest change of any of them. */
async function readSources(root) {
  const source = join(root, "src");
  const names = (await readdir(source, { recursive: true })).filter(isSource);
  const times = await Promise.all(names.map(async (name) => (await stat(join(source, name))).mtimeMs));
  return { names: names.map((name) => join("src", name)), newest: Math.max(...times) };
}

/** A hash of the versions that npm has installed, development's packages left out: `--omit=dev` installs the same ones. */
async function installedPackages(root) {
  const text = await readFile(join(root, "node_modules/.package-lock.json"), "utf8").catch(() => "{}");
  const { packages = {} } = JSON.parse(text);
  const lines = Object.entries(packages)
    .filter(([, { dev, devOptional }]) => !dev && !devOptional)
    .map(([path, { version }]) => `${path} ${version}\n`);
  return createHash("sha256").update(lines.join("")).digest("hex");
}

/** Whether dist is older than the sources or has other packages; undefined where it was never compiled. */
export async function isStale(root = checkout) {
  const stamp = stampOf(root);
  const compiled = await stat(stamp).catch(() => undefined);
  if (compiled === undefined) {
    return undefined;
  }
  const [packages, { newest }] = await Promise.all([readFile(stamp, "utf8"), readSources(root)]);
  return newest > compiled.mtimeMs || packages !== (await installedPackages(root));
}

/**
 * Compiles all sources.
 *
 * @param others modules from the root that are compiled with them, and share their modules.
 * @returns false where the compiler, a development dependency, is not installed.
 */
export async function compile(root = checkout, others = []) {
  const { names } = await readSources(root);
  const packages = await installedPackages(root);
  await rm(stampOf(root), { force: true });
  if (!(await bundle(root, [...names, ...others]))) {
    return false;
  }
  await writeFile(stampOf(root), packages);
  return true;
}
