/** What an image contains. */
export interface Role {
  /** Commands of `throughline` that work in the image. */
  readonly commands: readonly string[];
  /** Modules of `dist` that are started and not imported. */
  readonly programs: readonly string[];
  /** Folders of the checkout beside the modules. */
  readonly folders: readonly string[];
  /** Execution provider of which the libraries are downloaded. */
  readonly download?: "cuda12";
}

const worker: Role = {
  commands: ["worker", "doctor", "keys"],
  programs: ["engine/child/main"],
  folders: ["models/emoji-xl", "models/clip-tokenizer"],
};

/** The images, by the targets of the Dockerfile. */
export const roles: Readonly<Record<string, Role>> = {
  pipeline: { commands: ["pipeline", "jobs", "apps", "keys"], programs: [], folders: ["dist/page"] },
  "worker-cpu": worker,
  "worker-cuda": { ...worker, download: "cuda12" },
};
