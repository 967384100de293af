import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type PackedPackage, packPackages } from "../packages/pack.js";
import { billOfMaterials } from "./dependencies.js";

/**
 * Makes the files of a release in an empty folder: a tarball of each package, the bill of materials as `throughline.cdx.json`, and
 * `SHA256SUMS`, which `sha256sum --check` reads.
 */
export async function makeArtifacts(root: string, folder: string): Promise<readonly PackedPackage[]> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const packages = await packPackages(folder);
  const bill = join(folder, "throughline.cdx.json");
  await writeFile(bill, (await billOfMaterials(root)).text);
  const sums = await Promise.all(
    [...packages.map(({ tarball }) => tarball), bill].map(async (path) => {
      const digest = createHash("sha256")
        .update(await readFile(path))
        .digest("hex");
      return `${digest}  ${basename(path)}\n`;
    }),
  );
  await writeFile(join(folder, "SHA256SUMS"), sums.join(""));
  return packages;
}
