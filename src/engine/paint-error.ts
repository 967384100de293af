import type { PaintRequest } from "./engine.js";

/**
 * Why a painting failed, as the caller may see it:
 * `unsupported`: the model cannot take this request; `field` names what, and the message says which values it takes.
 * `lost`: the engine process died; the same request may succeed elsewhere.
 * `failed`: the model ran and its result is unusable, or it ran out of memory.
 */
export type PaintErrorKind = "unsupported" | "lost" | "failed";

/** The one error of the painter. Its message is fit for callers: no prompt, no path. The cause is for the log. */
export class PaintError extends Error {
  override readonly name = "PaintError";
  readonly kind: PaintErrorKind;
  /** Request field that does not fit, such as `width`; only with kind `unsupported`. */
  readonly field: keyof PaintRequest | undefined;
  /** Whether the process died while it painted this very request, which may be why; only with kind `lost`. */
  readonly whilePainting: boolean;

  constructor(
    kind: PaintErrorKind,
    message: string,
    options: ErrorOptions & { field?: keyof PaintRequest; whilePainting?: boolean } = {},
  ) {
    super(message, options);
    this.kind = kind;
    this.field = options.field;
    this.whilePainting = options.whilePainting ?? false;
  }
}
