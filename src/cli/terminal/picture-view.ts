import type { CommandContext } from "../command-context.js";
import { type InlinePicture, inlinePicture, type PictureProtocol, pictureProtocolOf } from "./inline-picture.js";
import { columnsOf, isInteractive } from "./terminal.js";

/** Whether and how a picture is shown on the terminal, as the settings say it. */
export interface PictureViewSettings {
  readonly inline: PictureProtocol | "auto" | "never";
  readonly quiet: boolean;
  readonly json: boolean;
}

/** What shows a picture on stdout, with a line break behind it; empty where no terminal is that can, or where it is not wanted. */
export function renderPicture(
  picture: InlinePicture,
  { inline, quiet, json }: PictureViewSettings,
  { stdout, environment }: Pick<CommandContext, "stdout" | "environment">,
): string {
  if (inline === "never" || quiet || json || !isInteractive(stdout, environment)) {
    return "";
  }
  const protocol = inline === "auto" ? pictureProtocolOf(environment) : inline;
  return protocol === undefined ? "" : inlinePicture(picture, protocol, columnsOf(stdout));
}
