import * as z from "zod";
import type { NumberRange } from "../request-limits.js";

/** Schema of a whole number within a limit. */
export const wholeNumber = ({ min, max }: NumberRange) =>
  z
    .int(`must be a whole number from ${min} to ${max}`)
    .min(min, `must be from ${min} to ${max}`)
    .max(max, `must be from ${min} to ${max}`);

/** Schema of a number within a limit. */
export const anyNumber = ({ min, max }: NumberRange) =>
  z
    .number(`must be a number from ${min} to ${max}`)
    .min(min, `must be from ${min} to ${max}`)
    .max(max, `must be from ${min} to ${max}`);
