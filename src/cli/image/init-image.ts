import { requestLimits } from "../../request-limits.js";
import { usageError } from "../errors.js";
import { readImageFile } from "./read-image-file.js";

/**
 * Read the file of `--init-image`. Undefined without the flag.
 *
 * @throws CliError for a file that cannot be read, is empty or is above 8 MiB, and for a `--strength` without an image.
 */
export async function readInitImage({
  initImage: path,
  strength,
}: {
  readonly initImage: string | undefined;
  readonly strength: number | undefined;
}): Promise<Uint8Array | undefined> {
  if (path === undefined) {
    if (strength !== undefined) {
      throw usageError("--strength needs --init-image: name a file, or leave --strength out");
    }
    return undefined;
  }
  return readImageFile({ path, flag: "--init-image", maxBytes: requestLimits.maxInitImageBytes });
}
