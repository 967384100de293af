import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Root of the repository. */
export const root = fileURLToPath(new URL("../../..", import.meta.url));

/** A folder below `node_modules/.cache/throughline-interop`, made where it is absent. Nothing in it is committed. */
export function cacheFolder(name: string): string {
  const folder = fileURLToPath(new URL(`../../../node_modules/.cache/throughline-interop/${name}/`, import.meta.url));
  mkdirSync(folder, { recursive: true });
  return folder;
}
