import { queueFull, unavailable } from "../mesh/errors/errors.js";
import type { Admission, AdmissionRequest, Slot } from "./admission.js";
import { tooLateError } from "./too-late.js";

/**
 * Admits a request, or rejects it.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED where there is no room, or too many are before it for its deadline; DEADLINE_EXCEEDED where even
 * painting alone would be too late; UNAVAILABLE while the engine is away.
 */
export function admit(request: AdmissionRequest, admission: Admission): Slot {
  const result = admission.enter(request);
  switch (result.kind) {
    case "admitted":
      return result.slot;
    case "full":
      throw queueFull("all places of this worker are taken", result.retryAfterMs);
    case "too-late":
      throw tooLateError(result);
    case "paused":
      throw unavailable("the worker is not ready: its engine is being restarted");
  }
}
