/**
 * Why a model cannot be had:
 * `not-found`: the Hub does not know it, or hides it; `forbidden`: it is gated, or the token is not accepted; `offline`: it is not in the
 * cache and the network is switched off; `unreachable`: the network or the Hub fails, and later it may work; `unresumable`: a download
 * cannot go on where it was cut; `corrupt`: bytes are not those that the Hub promised; `disk`: the cache cannot be written;
 * `unusable`: the repository has no SDXL model that the engine loads.
 */
export type HubErrorKind =
  | "not-found"
  | "forbidden"
  | "offline"
  | "unreachable"
  | "unresumable"
  | "corrupt"
  | "disk"
  | "unusable";

/** A model of the Hub that cannot be had. The message names the model, the file where there is one, and what to do. */
export class HubError extends Error {
  override readonly name = "HubError";
  readonly kind: HubErrorKind;

  /**
   * @param subject the model's id, and the file in it where it is about one: `owner/name: unet/model.onnx`.
   * @param problem what is wrong and what to do about it, in one line.
   */
  constructor(kind: HubErrorKind, subject: string, problem: string, options?: ErrorOptions) {
    super(`model ${subject}: ${problem}`, options);
    this.kind = kind;
  }
}
