/** Why an image cannot be stored: the store has no space, or it cannot be used for another reason. */
export type ImageStoreFailure = "full" | "unavailable";

/** An image store does not work. The message is for its operator. */
export class ImageStoreError extends Error {
  override readonly name = "ImageStoreError";
  readonly reason: ImageStoreFailure;

  constructor(reason: ImageStoreFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
