/** Thrown by a store that has no space for one more picture. */
export class StoreFullError extends Error {
  override readonly name = "StoreFullError";
}
