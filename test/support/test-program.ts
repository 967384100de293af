import { extname } from "node:path";

/** npm test compiles the tests; a single file also runs from its source, with a loader. */
const extension = extname(import.meta.url);

/** What Node needs to run this project's modules in the form that runs now, TypeScript or compiled. */
export const loaderArguments: readonly string[] =
  extension === ".ts" ? ["--conditions=throughline-source", "--import", "tsx"] : [];

/** A program of the tests, in the form that runs now. @param path from the module `base`, without its extension. */
export function testProgram(path: string, base: string): URL {
  return new URL(`${path}${extension}`, base);
}

/** The process of an example, in the form that runs now. @param path from the root, without its extension. */
export function exampleProgram(path: string): string {
  return extension === ".ts" ? `${path}.ts` : `${path.replace(/^examples/, "compiled-tests/programs")}.js`;
}
