import type { Logger } from "pino";

/** Says in the log that a file which is watched has changed and is wrong, so that what was read before stays in use. */
export function logRefusedFile(logger: Pick<Logger, "error">): (error: unknown) => void {
  return (error) =>
    logger.error(
      { reason: error instanceof Error ? error.message : error },
      "a changed file is wrong, the old one stays",
    );
}
