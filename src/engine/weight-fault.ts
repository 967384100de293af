import { ModelFolderError } from "./model-folder-error.js";
import { WeightError } from "./weights/tensor-location.js";

/** Makes a fault of the model of what is wrong with its weights, or with one of its files; other errors stay as they are. */
export function asModelError(folder: string, error: unknown): unknown {
  return error instanceof WeightError
    ? new ModelFolderError(folder, { file: error.label, expected: error.expected, found: error.found })
    : error;
}
