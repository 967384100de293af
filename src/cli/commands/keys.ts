import { createCallerKey, hashCallerKey } from "../../mesh/access/caller-keys.js";
import type { CommandContext } from "../command.js";
import { exitCodes } from "../errors.js";
import type { keysOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";

/** Makes a key for a caller: prints it, this once, and the entry with its hash for the file of callers. */
export async function runKeys(settings: OptionValues<typeof keysOptions>, { stdout }: CommandContext): Promise<number> {
  const key = createCallerKey();
  const hash = hashCallerKey(key);
  const { name, json } = settings;
  stdout.write(
    json
      ? `${JSON.stringify({ key, hash })}\n`
      : `The key, for the caller. It is kept nowhere and cannot be shown again:\n\n${key}\n\n` +
          `Its entry for the file of callers (--callers):\n\n` +
          `  - name: ${JSON.stringify(name)}\n    keys: ["${hash}"]\n    apps: ["*"]\n`,
  );
  return exitCodes.done;
}
