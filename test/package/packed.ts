import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, relative, sep } from "node:path";
import { promisify } from "node:util";
import { packPackages } from "../../scripts/packages/pack.js";

const run = promisify(execFile);

/** A package as npm publishes it, packed and unpacked. */
export interface Tarball {
  readonly name: string;
  readonly bytes: Buffer;
  /** Folder with the unpacked files. */
  readonly folder: string;
  /** Paths of all files in it. */
  readonly files: readonly string[];
}

/** All published packages. */
export interface Packed {
  /** The package of a name. @throws Error if there is none. */
  get(name: string): Tarball;
  remove(): Promise<void>;
}

/** Builds, packs and unpacks all packages. */
export async function packAll(): Promise<Packed> {
  const place = await mkdtemp(join(tmpdir(), "throughline-package-"));
  const remove = () => rm(place, { recursive: true });
  try {
    const tarballs = new Map<string, Tarball>();
    for (const { name, tarball } of await packPackages(place)) {
      tarballs.set(name, await unpack(name, tarball));
    }
    return {
      get(name) {
        const tarball = tarballs.get(name);
        if (tarball === undefined) {
          throw new Error(`no package ${name} was packed`);
        }
        return tarball;
      },
      remove,
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function unpack(name: string, tarball: string): Promise<Tarball> {
  const folder = join(tarball, "..", `unpacked-${basename(tarball, ".tgz")}`);
  await mkdir(folder);
  await run("tar", ["-xzf", tarball, "-C", folder, "--strip-components=1"]);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll(sep, "/"));
  return { name, bytes: await readFile(tarball), folder, files };
}
