/** The image store has no space for one more image. */
export class StoreFullError extends Error {
  override readonly name = "StoreFullError";
}
