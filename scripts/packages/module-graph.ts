import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import typescript from "typescript";

/** What is followed from the entries. */
export interface GraphOptions {
  /** Files of a module that are read. @default code and types */
  readonly extensions?: readonly string[];
  /** Imports that are left out. @default none */
  readonly isLeftOut?: (module: string, importer: string) => boolean;
}

/** What some modules of `dist` need. */
export interface ModuleGraph {
  /** Modules of `dist`, without extensions. */
  readonly modules: ReadonlySet<string>;
  /** Specifiers of everything else that they or their types import, Node's own modules left out. */
  readonly external: ReadonlySet<string>;
}

/** Follows the imports of entries, those of `import()` and `require` included. @param entries modules of `dist` without an extension. */
export function readModuleGraph(
  dist: string,
  entries: readonly string[],
  { extensions = [".js", ".d.ts"], isLeftOut = () => false }: GraphOptions = {},
): ModuleGraph {
  const modules = new Set<string>();
  const external = new Set<string>();
  const waiting = [...entries];
  for (let module = waiting.pop(); module !== undefined; module = waiting.pop()) {
    if (modules.has(module)) {
      continue;
    }
    modules.add(module);
    for (const extension of extensions) {
      for (const specifier of importsOf(join(dist, `${module}${extension}`))) {
        if (specifier.startsWith(".")) {
          const path = relative(dist, join(dist, dirname(module), specifier));
          const imported = path.replaceAll(sep, "/").replace(/\.js$/, "");
          if (!isLeftOut(imported, module)) {
            waiting.push(imported);
          }
        } else if (!specifier.startsWith("node:")) {
          external.add(specifier);
        }
      }
    }
  }
  return { modules, external };
}

function importsOf(path: string): readonly string[] {
  if (!existsSync(path)) {
    throw new Error(`${path} is missing: run npm run build`);
  }
  return typescript
    .preProcessFile(readFileSync(path, "utf8"), true, true)
    .importedFiles.map(({ fileName }) => fileName);
}

/** Name of the package that a specifier is of. */
export function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}
