import { schedulersByName } from "../../client/scheduler-names.js";
import { readImageSettings } from "../../image/image-settings.js";
import { printable } from "../../studio/trace-text.js";
import type { CommandContext } from "../command.js";
import { usageError } from "../errors.js";
import type { LoraChoice } from "../options/values.js";
import { maxImageBytes } from "./fetch-image.js";
import { readImageFile } from "./read-image-file.js";
import { unknownSchedulerIn } from "./unknown-scheduler.js";

/** Longest name of a file's scheduler that is shown, in characters. */
const maxShownName = 100;

/** Flags that `--settings-from` gives values. */
interface SettingsFlags {
  readonly settingsFrom: string | undefined;
  readonly seed: number | undefined;
  readonly steps: number | undefined;
  readonly guidance: number | undefined;
  readonly negative: string | undefined;
  readonly scheduler: string | undefined;
  readonly width: number | undefined;
  readonly height: number | undefined;
  readonly clipSkip: number | undefined;
  readonly guidanceRescale: number | undefined;
  readonly loras: readonly LoraChoice[] | undefined;
  readonly initImage: string | undefined;
  readonly strength: number | undefined;
}

/**
 * Fills in the prompt and the flags that are absent from the settings in the image of `--settings-from`. Warns on stderr of a stored
 * scheduler that this version does not have, unless a flag replaces it.
 *
 * @throws CliError without a prompt, or if the file has no settings.
 */
export async function withImageSettings<Flags extends SettingsFlags>(
  flags: Flags,
  prompt: string,
  { stderr }: Pick<CommandContext, "stderr">,
): Promise<{ readonly flags: Flags; readonly prompt: string }> {
  const { settingsFrom: path } = flags;
  if (path === undefined) {
    if (prompt === "") {
      throw usageError(
        "the prompt is missing: write what the image should show, or name an image with --settings-from",
      );
    }
    return { flags, prompt };
  }
  const file = await readImageFile({ path, flag: "--settings-from", maxBytes: maxImageBytes });
  const settings = readImageSettings(file);
  if (settings === undefined) {
    throw usageError(
      `--settings-from ${path}: the file has no settings of throughline; name a PNG image of a worker with --image-metadata`,
    );
  }
  const { options } = settings;
  if (options?.strength !== undefined && flags.initImage === undefined) {
    throw usageError(`--settings-from ${path}: the image was made from another one; name that one with --init-image`);
  }
  const unknown = flags.scheduler === undefined ? unknownSchedulerIn(file) : undefined;
  if (unknown !== undefined) {
    stderr.write(
      `throughline: --settings-from ${path}: this version has no scheduler ${printable(JSON.stringify(unknown), maxShownName)}; the model's own is used, so the image will differ. --scheduler names another\n`,
    );
  }
  const scheduler = [...schedulersByName].find(([, value]) => value === options?.scheduler)?.[0];
  const stored = {
    seed: options?.seed,
    steps: options?.numInferenceSteps,
    guidance: options?.guidanceScale,
    negative: options?.negativePrompt,
    scheduler,
    width: options?.width,
    height: options?.height,
    clipSkip: options?.clipSkip,
    guidanceRescale: options?.guidanceRescale,
    strength: options?.strength,
    loras: options?.loras.map(({ name, scale }) => ({ name, scale })),
  };
  const given = Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
  return { flags: { ...flags, ...stored, ...given }, prompt: prompt === "" ? settings.prompt : prompt };
}
