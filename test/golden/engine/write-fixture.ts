import { makeSdxlFolder } from "../../fixtures/sdxl-folder.js";

/** Writes the usual fixture folder to the path given, for make-pipeline-golden.py. */
const [, , directory = "."] = process.argv;
await makeSdxlFolder(directory);
