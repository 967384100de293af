import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const cache = fileURLToPath(new URL("../../node_modules/.cache/throughline-typescript/", import.meta.url));
const execute = promisify(execFile);

/** A TypeScript compiler, or why there is none. */
export type OldCompiler = { readonly path: string } | { readonly missing: string };

/**
 * The compiler of a version of TypeScript. It is installed once, from npm's registry, into `node_modules/.cache`: as a dependency of the
 * checkout, its command `tsc` would hide the checkout's own.
 */
export async function oldCompiler(version: string): Promise<OldCompiler> {
  const folder = `${cache}${version}`;
  const path = `${folder}/node_modules/typescript/bin/tsc`;
  if (existsSync(path)) {
    return { path };
  }
  const partial = `${folder}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await writeFile(`${partial}/package.json`, JSON.stringify({ private: true, dependencies: { typescript: version } }));
  try {
    await execute("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts"], { cwd: partial });
  } catch (error) {
    return { missing: `TypeScript ${version} cannot be installed: ${error instanceof Error ? error.message : error}` };
  }
  await rename(partial, folder);
  return { path };
}
