import { existsSync, readFileSync } from "node:fs";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";

/** File of the command line itself, in the form that runs now: TypeScript in a checkout, JavaScript in the package. */
export const commandLineEntry: string = fileURLToPath(new URL(`./main${extname(import.meta.url)}`, import.meta.url));

/** Only a checkout has it: the published package comes compiled. */
const isCheckout = existsSync(new URL("../../tsconfig.build.json", import.meta.url));

/** What a user types before a command's name: in a checkout, or with the package installed. */
export const commandPrefix: string = isCheckout ? "npm run throughline --" : "npx throughline";

/** The studio's page as `npm run build` makes it: two levels up, the same from `src/cli` and from `dist/cli`. */
export const studioPageFolder: string = fileURLToPath(new URL("../../dist/page", import.meta.url));

/** Version of the package. */
export function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version;
}
