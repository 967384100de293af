import { join } from "node:path";
import { makeSdxlFolder } from "../../fixtures/sdxl-folder.js";

/** Writes fixture folders below the path given, for make-pipeline-golden.py: the usual one, and one that guides itself. */
const [, , directory = "."] = process.argv;
for (const guidanceWidth of [0, 16]) {
  await makeSdxlFolder(join(directory, `guidance-${guidanceWidth}`), { guidanceWidth });
}
