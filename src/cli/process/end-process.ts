import { CommandError } from "../command-error.js";
import { exitCodes } from "../exit-codes.js";

/** Ends this process once all that it wrote has left. */
export async function endProcess(exitCode: number): Promise<never> {
  await Promise.all([flush(process.stdout), flush(process.stderr)]);
  process.exit(exitCode);
}

/** The exit code for what ended the program. */
export function exitCodeOfFailure(error: unknown): number {
  return error instanceof CommandError ? error.exitCode : exitCodes.failed;
}

/** Resolves when all that was written has left, or when nobody reads it any more. */
function flush(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writable) {
      stream.write("", () => resolve());
    } else {
      resolve();
    }
  });
}
