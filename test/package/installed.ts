import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";

const root = fileURLToPath(new URL("../..", import.meta.url));
const names = z.record(z.string(), z.unknown()).default({});
const manifestSchema = z.object({
  dependencies: names,
  optionalDependencies: names,
  peerDependencies: names,
  peerDependenciesMeta: z.record(z.string(), z.object({ optional: z.boolean().default(false) })).default({}),
});

/** What npm installs with a package: itself, its dependencies and theirs, and their peers. */
export interface Installation {
  /** Names of the packages, without its own. */
  readonly packages: readonly string[];
  /** Sum of the sizes of all files, in bytes, its own included. */
  readonly bytes: number;
}

/** Works out what npm installs with an unpacked package on this platform, from the packages that are installed in this checkout. */
export function installationOf(folder: string): Installation {
  const folders = new Map<string, string>();
  const visit = (from: string, parent: string): void => {
    const manifest = manifestSchema.parse(JSON.parse(readFileSync(join(from, "package.json"), "utf8")));
    const optional = new Set(Object.keys(manifest.optionalDependencies));
    const peers = Object.keys(manifest.peerDependencies).filter(
      (name) => manifest.peerDependenciesMeta[name]?.optional !== true,
    );
    for (const name of [...Object.keys(manifest.dependencies), ...peers, ...optional]) {
      const found = resolve(name, parent);
      if (found === undefined) {
        // Optional ones are for other platforms.
        if (!optional.has(name)) {
          throw new Error(`${from} needs ${name}, which is not installed`);
        }
      } else if (!folders.has(found)) {
        folders.set(found, name);
        visit(found, found);
      }
    }
  };
  visit(folder, root);
  const bytes = [folder, ...folders.keys()].reduce((sum, each) => sum + sizeOf(each), 0);
  return { packages: [...folders.values()].sort(), bytes };
}

function resolve(name: string, from: string): string | undefined {
  for (let folder = from; folder.startsWith(root.replace(/[\\/]$/, "")); folder = dirname(folder)) {
    const path = join(folder, "node_modules", name);
    if (existsSync(path)) {
      return path;
    }
  }
  return undefined;
}

/** Size of a package's own files: those of packages inside it count on their own. */
function sizeOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.slice(folder.length).includes(`${sep}node_modules${sep}`))
    .reduce((sum, path) => sum + statSync(path).size, 0);
}
