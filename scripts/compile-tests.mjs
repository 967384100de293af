// Compiles the tests into compiled-tests/, beside test/, for scripts/test.mjs: they share the modules of dist, and need no TypeScript loader.
import { cp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { prepare } from "./prepare.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** At the depth of test/: a path that a test builds from its own place leads to the same file. */
export const compiledTests = "compiled-tests";

/** Processes of examples that tests start. */
const programs = ["examples/upscaler/src/main.ts"];

/** Programs of other projects, with settings of their own. */
const otherProjects = /^(?:conformance[\\/]program|package[\\/]projects)[\\/]/;
const isModule = (name) => /\.ts$/.test(name) && !name.endsWith(".d.ts") && !otherProjects.test(name);

/** Compiles them anew, and the sources with them: it takes about as long as to find out which have changed. */
export async function compileTests() {
  const outdir = join(root, compiledTests);
  const names = await readdir(join(root, "test"), { recursive: true });
  await rm(outdir, { recursive: true, force: true });
  const modules = names.filter(isModule).map((name) => join("test", name));
  if (!(await prepare([...modules, ...programs]))) {
    throw new Error("the tests need the development dependencies: run npm ci");
  }
  // Golden files and what else the tests read beside themselves.
  await cp(join(root, "test"), outdir, { recursive: true, filter: (path) => !/\.tsx?$/.test(path) });
}
