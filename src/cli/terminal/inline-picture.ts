import { formatOfContentType, type ImageFormat } from "../../image/encode-image.js";
import type { Environment } from "../../trace/telemetry/environment.js";

/** How a terminal wants to be given a picture. */
export type PictureProtocol = "kitty" | "iterm2";

/**
 * The protocol that the terminal of this environment has; undefined where it says of none. Only variables are looked at: a terminal that is
 * asked by an escape sequence may be slow to answer, or answer into the next prompt. Within a multiplexer there is none, because the
 * multiplexer keeps the picture for itself; its variables stand beside those of the terminal that it was started in.
 */
export function pictureProtocolOf(environment: Environment): PictureProtocol | undefined {
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

/** A picture to be shown. */
export interface InlinePicture {
  readonly bytes: Uint8Array;
  readonly contentType: string;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

/** What each takes; kitty would want pixels of anything else. */
const takenFormats: Record<PictureProtocol, readonly ImageFormat[]> = { kitty: ["png"], iterm2: ["png", "jpeg"] };

/** A larger file would hold the terminal up. */
const maxBytes = 8 * 1024 * 1024;

/** Lines that a picture takes; fewer where it would be wider than the terminal. */
const mostRows = 16;
/** A character is about twice as high as it is wide. */
const columnsOfRow = 2;

/**
 * The escape sequence that shows a picture, with a line break behind it; empty for a picture that the protocol does not take.
 *
 * @param columns width of the terminal.
 * @see https://sw.kovidgoyal.net/kitty/graphics-protocol/
 * @see https://iterm2.com/documentation-images.html
 */
export function inlinePicture(picture: InlinePicture, protocol: PictureProtocol, columns: number): string {
  const { bytes, contentType, width, height } = picture;
  const format = formatOfContentType(contentType);
  if (format === undefined || !takenFormats[protocol].includes(format) || bytes.length > maxBytes) {
    return "";
  }
  const fitting = Math.floor((columns * height) / (columnsOfRow * width));
  const rows = Math.max(1, Math.min(mostRows, fitting));
  const base64 = Buffer.from(bytes).toString("base64");
  return `${protocol === "kitty" ? kittySequence(base64, rows) : iterm2Sequence(base64, bytes.length, rows)}\n`;
}

/** kitty wants chunks, and no more than so many characters in one. */
const chunkLength = 4096;

function kittySequence(base64: string, rows: number): string {
  const chunks = base64.match(new RegExp(`.{1,${chunkLength}}`, "g")) ?? [];
  return chunks
    .map((chunk, i) => {
      // Transmit and show, a PNG, no answer please, scaled to so many lines.
      const first = i === 0 ? `a=T,f=100,q=2,r=${rows},` : "";
      return `\u001b_G${first}m=${i === chunks.length - 1 ? 0 : 1};${chunk}\u001b\\`;
    })
    .join("");
}

function iterm2Sequence(base64: string, size: number, rows: number): string {
  return `\u001b]1337;File=inline=1;size=${size};height=${rows};preserveAspectRatio=1:${base64}\u0007`;
}
