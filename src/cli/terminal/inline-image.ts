import { formatOfContentType, type ImageFormat } from "../../image/image-format.js";
import type { Environment } from "../../trace/telemetry/environment.js";
import type { CommandContext } from "../command.js";
import { columnsOf, isInteractive } from "./terminal.js";

/** How a terminal wants to be given an image. */
export type ImageProtocol = "kitty" | "iterm2";

/**
 * The protocol that the terminal of this environment has; undefined if it names none. Only variables are read: a terminal may answer an escape
 * sequence late, into the next prompt. Undefined inside a multiplexer, which does not pass images on.
 */
export function imageProtocolOf(environment: Environment): ImageProtocol | undefined {
  const { TERM: term = "", TERM_PROGRAM: program = "", LC_TERMINAL: remote, KONSOLE_VERSION: konsole } = environment;
  if (["TMUX", "STY", "ZELLIJ"].some((name) => environment[name] !== undefined) || /^(?:screen|tmux)/.test(term)) {
    return undefined;
  }
  if (iterm2Programs.has(program) || remote === "iTerm2" || Number(konsole) >= firstKonsole) {
    return "iterm2";
  }
  const isKitty = kittyPrograms.has(program) || kittyTerms.has(term) || environment["KITTY_WINDOW_ID"] !== undefined;
  return isKitty ? "kitty" : undefined;
}

/** `TERM_PROGRAM` of terminals with iTerm2's inline images. */
const iterm2Programs = new Set(["iTerm.app", "WezTerm", "vscode", "mintty", "rio"]);
/** Konsole has them since 22.04. */
const firstKonsole = 220_400;

/** `TERM_PROGRAM`, and `TERM`, which a remote shell gets too, of terminals with kitty's graphics. */
const kittyPrograms = new Set(["kitty", "ghostty", "WarpTerminal"]);
const kittyTerms = new Set(["xterm-kitty", "xterm-ghostty"]);

/** An image to be shown. */
export interface InlineImage {
  readonly bytes: Uint8Array;
  readonly contentType: string;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

/** What each takes; kitty would want pixels of anything else. */
const takenFormats: Record<ImageProtocol, readonly ImageFormat[]> = { kitty: ["png"], iterm2: ["png", "jpeg"] };

/** A larger file would hold the terminal up. */
const maxBytes = 8 * 1024 * 1024;

/** Lines that an image takes; fewer where it would be wider than the terminal. */
const mostRows = 16;
/** A character is about twice as high as it is wide. */
const columnsOfRow = 2;

/**
 * Escape sequence that shows an image, followed by a line break; empty if the protocol does not support the image.
 *
 * @param columns width of the terminal.
 * @see https://sw.kovidgoyal.net/kitty/graphics-protocol/
 * @see https://iterm2.com/documentation-images.html
 */
export function inlineImage(image: InlineImage, protocol: ImageProtocol, columns: number): string {
  const { bytes, contentType, width, height } = image;
  const format = formatOfContentType(contentType);
  if (format === undefined || !takenFormats[protocol].includes(format) || bytes.length > maxBytes) {
    return "";
  }
  const fitting = Math.floor((columns * height) / (columnsOfRow * width));
  const rows = Math.max(1, Math.min(mostRows, fitting));
  const base64 = Buffer.from(bytes).toString("base64");
  return `${protocol === "kitty" ? kittySequence(base64, rows) : iterm2Sequence(base64, bytes.length, rows)}\n`;
}

/** Maximum characters in a chunk of kitty. */
const chunkLength = 4096;

function kittySequence(base64: string, rows: number): string {
  const chunks = base64.match(new RegExp(`.{1,${chunkLength}}`, "g")) ?? [];
  return chunks
    .map((chunk, i) => {
      // Transmit and show a PNG, without an answer, scaled to `rows` lines.
      const first = i === 0 ? `a=T,f=100,q=2,r=${rows},` : "";
      return `\u001b_G${first}m=${i === chunks.length - 1 ? 0 : 1};${chunk}\u001b\\`;
    })
    .join("");
}

function iterm2Sequence(base64: string, size: number, rows: number): string {
  return `\u001b]1337;File=inline=1;size=${size};height=${rows};preserveAspectRatio=1:${base64}\u0007`;
}

/** Whether and how the terminal shows an image, by the settings. */
export interface ImageViewSettings {
  readonly inline: ImageProtocol | "auto" | "never";
  readonly quiet: boolean;
  readonly json: boolean;
}

/** Text that shows an image on stdout, followed by a line break; empty if the terminal cannot show it or the settings disable it. */
export function renderImage(
  image: InlineImage,
  { inline, quiet, json }: ImageViewSettings,
  { stdout, environment }: Pick<CommandContext, "stdout" | "environment">,
): string {
  if (inline === "never" || quiet || json || !isInteractive(stdout, environment)) {
    return "";
  }
  const protocol = inline === "auto" ? imageProtocolOf(environment) : inline;
  return protocol === undefined ? "" : inlineImage(image, protocol, columnsOf(stdout));
}
