import { fileURLToPath } from "node:url";

/** Folder of the package's built-in model. */
// Two levels up, the same from `src/worker` and from `dist/worker`.
export const embeddedModelFolder: string = fileURLToPath(new URL("../../models/emoji-xl", import.meta.url));
