// Compiles the tests into compiled-tests/, beside test/, for scripts/test.mjs: they run against dist, without a TypeScript loader.
import { cp, readdir, rm } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { prepare } from "./prepare.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** At the depth of test/: a path that a test builds from its own place leads to the same file. */
export const compiledTests = "compiled-tests";

/** Programs of other projects, with settings of their own. */
const otherProjects = /^(?:conformance[\\/]program|package[\\/]projects)[\\/]/;
const isModule = (name) => /\.ts$/.test(name) && !name.endsWith(".d.ts") && !otherProjects.test(name);

const isBelow = (folder, path) => path.startsWith(join(root, folder, "/"));

/**
 * Imports of tests and sources lead to their compiled form. What dist does not have (the page's modules,
 * the examples, the benches) goes into the test that imports it.
 */
const imports = {
  name: "imports",
  setup(bundler) {
    bundler.onResolve({ filter: /.*/ }, ({ kind, path, resolveDir }) => {
      if (kind === "entry-point") {
        return undefined;
      }
      if (!path.startsWith(".")) {
        return { path, external: true };
      }
      const target = resolve(resolveDir, path);
      const at = (folder, from) => ({
        path: pathToFileURL(join(root, folder, relative(join(root, from), target))).href,
        external: true,
      });
      if (isBelow("src", target) && !isBelow("src/page", target)) {
        return at("dist", "src");
      }
      if (isBelow("test", target)) {
        return at(compiledTests, "test");
      }
      return path.endsWith(".mjs") ? at(".", ".") : undefined;
    });
  },
};

/** Compiles them anew: it takes about as long as to find out which have changed. */
export async function compileTests() {
  if (!(await prepare())) {
    throw new Error("the tests need the development dependencies: run npm ci");
  }
  const { build } = await import("esbuild");
  const outdir = join(root, compiledTests);
  const names = await readdir(join(root, "test"), { recursive: true });
  await rm(outdir, { recursive: true, force: true });
  await build({
    absWorkingDir: root,
    entryPoints: names.filter(isModule).map((name) => join("test", name)),
    outbase: "test",
    outdir,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    jsx: "automatic",
    jsxImportSource: "preact",
    sourcemap: "linked",
    sourcesContent: false,
    logLevel: "warning",
    plugins: [imports],
  });
  // Golden files and what else the tests read beside themselves.
  await cp(join(root, "test"), outdir, { recursive: true, filter: (path) => !/\.tsx?$/.test(path) });
}
