import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { z } from "zod";
import { partialPackages } from "./partial-packages.js";
import { stagePartial, stageWhole } from "./stage.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);
const npmOutput = z.tuple([z.object({ filename: z.string() })]);

/** A tarball as npm publishes it. */
export interface PackedPackage {
  readonly name: string;
  /** Path of the tarball. */
  readonly tarball: string;
  /** Its size in bytes. */
  readonly size: number;
}

/** Builds `dist` and packs all packages into a folder, in the order in which they are to be published. */
export async function packPackages(target: string): Promise<readonly PackedPackage[]> {
  await run(process.execPath, ["scripts/build.mjs"], { cwd: root });
  await mkdir(target, { recursive: true });
  const packed: PackedPackage[] = [];
  for (const partial of partialPackages) {
    packed.push(await pack(partial.name, target, (folder) => stagePartial(folder, partial)));
  }
  packed.push(await pack("throughline", target, stageWhole));
  return packed;
}

async function pack(name: string, target: string, stage: (folder: string) => Promise<void>): Promise<PackedPackage> {
  const folder = await mkdtemp(join(tmpdir(), "throughline-stage-"));
  try {
    await stage(folder);
    // npm is a script of the shell on Windows.
    const shell = process.platform === "win32";
    const options = { cwd: folder, shell, maxBuffer: 2 ** 26 };
    const { stdout } = await run("npm", ["pack", "--json", "--loglevel=error", "--pack-destination", target], options);
    const [{ filename }] = npmOutput.parse(JSON.parse(stdout));
    const tarball = join(target, filename);
    return { name, tarball, size: (await stat(tarball)).size };
  } finally {
    await rm(folder, { recursive: true });
  }
}
