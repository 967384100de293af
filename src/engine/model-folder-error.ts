/** What is wrong with a model folder. */
export interface ModelFolderFault {
  /** File inside the folder, such as `unet/config.json`. */
  readonly file: string;
  readonly expected: string;
  readonly found: string;
}

/** A model folder that cannot be loaded: it names the file, what was expected there and what was found. For operators, not callers. */
export class ModelFolderError extends Error {
  override readonly name = "ModelFolderError";
  readonly folder: string;
  readonly fault: ModelFolderFault;

  constructor(folder: string, fault: ModelFolderFault, options?: ErrorOptions) {
    super(`model folder ${folder}: ${fault.file}: expected ${fault.expected}, found ${fault.found}`, options);
    this.folder = folder;
    this.fault = fault;
  }
}
