import { mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** What the program finds beside `src`. */
const beside = ["dist", "models", "node_modules", "package.json"];

/**
 * File of the command line, compiled: half of the time that a service takes to start from TypeScript goes into the loader. npm test has
 * compiled it into dist. A test that runs from its source compiles it for this process, into a folder that goes when the process ends.
 */
export const compiledProgram: string = extname(import.meta.url) === ".js" ? join(root, "dist/cli/main.js") : compile();

function compile(): string {
  const folder = mkdtempSync(join(tmpdir(), "throughline-compiled-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  for (const name of beside) {
    symlinkSync(join(root, name), join(folder, name));
  }
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" });
  buildSync({
    absWorkingDir: root,
    entryPoints: sources.filter((name) => name.endsWith(".ts")).map((name) => join("src", name)),
    outbase: "src",
    outdir: join(folder, "src"),
    format: "esm",
    platform: "node",
    target: "node20",
  });
  return join(folder, "src/cli/main.js");
}
