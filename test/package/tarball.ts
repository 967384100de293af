import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

/** What `npm pack` gives, packed and unpacked. */
export interface Tarball {
  readonly bytes: Buffer;
  /** Folder in which it lies unpacked. */
  readonly folder: string;
  /** Paths of all files in it. */
  readonly files: readonly string[];
  remove(): Promise<void>;
}

/** Builds and packs the package as it would be published. */
export async function packPackage(): Promise<Tarball> {
  const place = await mkdtemp(join(tmpdir(), "throughline-package-"));
  const remove = () => rm(place, { recursive: true });
  try {
    return { ...(await packInto(place)), remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function packInto(place: string): Promise<Omit<Tarball, "remove">> {
  await run(process.execPath, ["scripts/build.mjs"], { cwd: root });
  await run("npm", ["pack", "--loglevel=error", "--pack-destination", place], {
    cwd: root,
  });
  const [name = ""] = await readdir(place);
  const folder = join(place, "unpacked");
  await mkdir(folder);
  await run("tar", ["-xzf", join(place, name), "-C", folder, "--strip-components=1"]);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll(sep, "/"));
  return { bytes: await readFile(join(place, name)), folder, files };
}
