import type { FieldName, FormField } from "./request-form.js";

/** Whether a message is about the image to start from. */
export const isOfStart = (name: FieldName) => name === "initImage" || name === "strength";

/** Which fields' messages a change of a field outdates: another app has other limits, another scheduler another maximum of steps. */
export function outdatedBy(field: FormField): (name: FieldName) => boolean {
  return (name) =>
    name === field ||
    field === "workerApp" ||
    (field === "scheduler" && name === "steps") ||
    // So many steps may suffice for the strength.
    (field === "steps" && name === "strength");
}
