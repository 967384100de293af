import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { packageOf, readModuleGraph } from "./module-graph.js";
import type { PartialPackage } from "./partial-packages.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const dist = join(root, "dist");
const manifestSchema = z.looseObject({
  version: z.string(),
  files: z.array(z.string()),
  dependencies: z.record(z.string(), z.string()),
});

/** What the partial packages have in common with the whole one. */
const sharedFields = ["version", "license", "author", "repository", "bugs", "homepage", "type", "engines"];
/** What serves this checkout only. `private` keeps `npm publish` from publishing it as it is. */
const checkoutFields = ["private", "scripts", "devDependencies", "overrides"];

const readManifest = async () => manifestSchema.parse(JSON.parse(await readFile(join(root, "package.json"), "utf8")));

async function writeManifest(folder: string, manifest: object): Promise<void> {
  await writeFile(join(folder, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

/** Copies what `throughline` publishes into a folder, for `npm pack`. */
export async function stageWhole(folder: string): Promise<void> {
  const manifest = await readManifest();
  const copied = ["README.md", "LICENSE", ...manifest.files.filter((path) => !path.startsWith("!"))];
  for (const path of copied) {
    await cp(join(root, path), join(folder, path), { recursive: true });
  }
  const published = Object.entries(manifest).filter(([field]) => !checkoutFields.includes(field));
  await writeManifest(folder, Object.fromEntries(published));
}

/** Copies what a partial package publishes into a folder: the modules that its entries reach, with types, maps and sources. */
export async function stagePartial(folder: string, partial: PartialPackage): Promise<void> {
  const manifest = await readManifest();
  const { modules, external } = readModuleGraph(dist, Object.values(partial.entries));
  for (const module of modules) {
    for (const extension of [".js", ".d.ts"]) {
      const path = `${module}${extension}`;
      const text = withCopiedModules(await readFile(join(dist, path), "utf8"), module, partial);
      await write(join(folder, "dist", path), text);
      await write(join(folder, "dist", `${path}.map`), await readFile(join(dist, `${path}.map`)));
    }
    await write(join(folder, "src", `${module}.ts`), await readFile(join(root, "src", `${module}.ts`)));
  }
  for (const [specifier, module] of Object.entries(partial.copied)) {
    const source = fileURLToPath(import.meta.resolve(specifier)).replace(/\.js$/, "");
    for (const extension of [".js", ".d.ts"]) {
      await write(join(folder, "dist", `${module}${extension}`), await readFile(`${source}${extension}`));
    }
  }
  await cp(join(root, "LICENSE"), join(folder, "LICENSE"));
  await cp(join(root, "NOTICE"), join(folder, "NOTICE"));
  await cp(fileURLToPath(new URL(partial.readme, import.meta.url)), join(folder, "README.md"));

  const libraries = new Set([...external].filter((specifier) => !(specifier in partial.copied)).map(packageOf));
  const ranges = (names: Iterable<string>) =>
    Object.fromEntries([...names].sort().map((name) => [name, rangeOf(manifest.dependencies, name)]));
  const dependencies = ranges([...libraries].filter((name) => !partial.peers.includes(name)));
  const { name, description, keywords } = partial;
  await writeManifest(folder, {
    name,
    description,
    keywords,
    ...Object.fromEntries(Object.entries(manifest).filter(([field]) => sharedFields.includes(field))),
    sideEffects: false,
    exports: {
      ...Object.fromEntries(
        Object.entries(partial.entries).map(([subpath, module]) => [
          subpath,
          { types: `./dist/${module}.d.ts`, default: `./dist/${module}.js` },
        ]),
      ),
      "./package.json": "./package.json",
    },
    files: ["NOTICE", "dist", "src"],
    ...(Object.keys(dependencies).length > 0 && { dependencies }),
    ...(partial.peers.length > 0 && { peerDependencies: ranges(partial.peers) }),
  });
}

async function write(path: string, content: string | Buffer): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
}

/** A library shares types with its user's program, so it takes every compatible version. */
function rangeOf(versions: Readonly<Record<string, string>>, name: string): string {
  const version = versions[name];
  if (version === undefined) {
    throw new Error(`${name} is imported and is no dependency of package.json`);
  }
  return `^${version}`;
}

function withCopiedModules(text: string, module: string, { copied }: PartialPackage): string {
  return Object.entries(copied).reduce((code, [specifier, target]) => {
    const path = posix.relative(posix.dirname(module), `${target}.js`);
    return code.replaceAll(JSON.stringify(specifier), JSON.stringify(path.startsWith(".") ? path : `./${path}`));
  }, text);
}
