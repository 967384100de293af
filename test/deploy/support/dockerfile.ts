import { readText } from "./manifests.js";

/** A command of a RUN instruction, without its mounts, by the stage that it belongs to. */
export interface BuildCommand {
  readonly stage: string;
  readonly command: string;
}

const path = "deploy/docker/Dockerfile";

/** Instructions of the Dockerfile, each on one line. */
function instructions(): readonly string[] {
  return readText(path)
    .replace(/^\s*#.*\n/gm, "")
    .replace(/\\\n\s*/g, " ")
    .split("\n")
    .filter((line) => line.trim() !== "");
}

/** The RUN commands, in their order. */
export function buildCommands(): readonly BuildCommand[] {
  let stage = "";
  return instructions().flatMap((line) => {
    stage = /^FROM \S+ AS (\S+)$/.exec(line)?.[1] ?? stage;
    const command = /^RUN (?:--mount=\S+ )*(.*)$/.exec(line)?.[1];
    return command === undefined ? [] : [{ stage, command }];
  });
}

/** Arguments of the last instruction of a kind in a stage or in `runtime`, on which the stages of images rest. */
export function lastInstruction(stageName: string, kind: string): string | undefined {
  let stage = "";
  let found: string | undefined;
  for (const line of instructions()) {
    stage = /^FROM \S+ AS (\S+)$/.exec(line)?.[1] ?? stage;
    if ((stage === stageName || stage === "runtime") && line.startsWith(`${kind} `)) {
      found = line.slice(kind.length + 1);
    }
  }
  return found;
}

/** What of the checkout the build sees. */
export function contextPaths(): readonly string[] {
  const lines = readText(`${path}.dockerignore`).split("\n");
  const patterns = lines.filter((line) => line !== "" && !line.startsWith("#"));
  if (patterns[0] !== "*" || patterns.slice(1).some((pattern) => !pattern.startsWith("!"))) {
    throw new Error(`${path}.dockerignore does not leave out all, and then name what stays`);
  }
  return patterns.slice(1).map((pattern) => pattern.slice(1));
}
