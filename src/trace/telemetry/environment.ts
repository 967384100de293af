import { accessSync, constants } from "node:fs";
import type { TelemetryVariable } from "./telemetry-variables.js";

/** Environment variables, as `process.env` holds them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Log for problems with telemetry, such as a pino logger. */
export interface TelemetryLog {
  /** Takes one line, with its fields. */
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** A variable holds a value that the service cannot start with. The message names the variable, the value and what is allowed. */
export class TelemetryConfigError extends Error {
  override readonly name = "TelemetryConfigError";
  readonly variable: string;

  constructor(variable: string, problem: string, options?: ErrorOptions) {
    super(`${variable} ${problem}`, options);
    this.variable = variable;
  }
}

/** A variable that is set, with the name it was found under. */
export interface Setting {
  readonly variable: TelemetryVariable;
  readonly value: string;
}

/** The longest time that Node's timers can wait, in milliseconds; they take a longer one for 1. */
export const maxTimerMs = 2 ** 31 - 1;

/**
 * Reads the variables of telemetry. An enumeration or a number of `OTEL_*` that means nothing is ignored with a warning, as the
 * specification asks; a variable of our own is rejected. The SDK would read `OTEL_*` itself, but from `process.env` alone.
 */
export interface VariableReader {
  /** The first of these variables that is set, white space trimmed; an empty one is not set. */
  text(...variables: readonly TelemetryVariable[]): Setting | undefined;
  /** One of a list of words, in any case. */
  choice<T extends string>(choices: readonly T[], ...variables: readonly TelemetryVariable[]): T | undefined;
  /** Words of a list that is separated by commas, without the unknown ones. Undefined where none is left. */
  choices<T extends string>(known: readonly T[], variable: TelemetryVariable): ReadonlySet<T> | undefined;
  /** A number within bounds, whole unless `share`. */
  number(bounds: NumberBounds, ...variables: readonly TelemetryVariable[]): number | undefined;
  /** A truth value in one of its usual spellings. @throws TelemetryConfigError for another one. */
  truth(variable: TelemetryVariable, absent: boolean): boolean;
  /** The path of a file that can be read. @throws TelemetryConfigError where it cannot. */
  file(...variables: readonly TelemetryVariable[]): string | undefined;
}

/** Bounds of a number; both belong to it. */
export interface NumberBounds {
  readonly min: number;
  readonly max: number;
  /** Whether parts of one are allowed. */
  readonly fraction?: boolean;
}

/** Reads `environment`; the warnings go to `log`, one for each variable. */
export function createVariableReader(environment: Environment, log: TelemetryLog): VariableReader {
  const warned = new Set<string>();
  const ignore = ({ variable, value }: Setting, expected: string): undefined => {
    if (!variable.startsWith("OTEL_")) {
      reject({ variable, value }, expected);
    }
    if (!warned.has(variable)) {
      warned.add(variable);
      log.warn({ variable, value }, `${variable} is ignored: it must be ${expected}`);
    }
  };
  const text: VariableReader["text"] = (...variables) => {
    for (const variable of variables) {
      const value = environment[variable]?.trim() ?? "";
      if (value !== "") {
        return { variable, value };
      }
    }
    return undefined;
  };
  return {
    text,
    choice(choices, ...variables) {
      const setting = text(...variables);
      const found = choices.find((choice) => choice === setting?.value.toLowerCase());
      return found ?? (setting && ignore(setting, `one of ${choices.join(", ")}`));
    },
    choices(known, variable) {
      const setting = text(variable);
      const words = setting?.value.split(",").map((word) => word.trim().toLowerCase()) ?? [];
      const found = known.filter((word) => words.includes(word));
      if (setting !== undefined && found.length < words.length) {
        ignore(setting, `a list of ${known.join(", ")}`);
      }
      return found.length > 0 ? new Set(found) : undefined;
    },
    number({ min, max, fraction = false }, ...variables) {
      const setting = text(...variables);
      const number = Number(setting?.value);
      if (setting === undefined || (number >= min && number <= max && (fraction || Number.isInteger(number)))) {
        return setting && number;
      }
      return ignore(setting, `a ${fraction ? "" : "whole "}number from ${min} to ${max}`);
    },
    truth(variable, absent) {
      const setting = text(variable);
      const word = setting?.value.toLowerCase() ?? "";
      if (setting === undefined || ["true", "1", "yes", "on"].includes(word)) {
        return setting === undefined ? absent : true;
      }
      return ["false", "0", "no", "off"].includes(word) ? false : reject(setting, "true or false");
    },
    file(...variables) {
      const setting = text(...variables);
      if (setting === undefined) {
        return undefined;
      }
      try {
        accessSync(setting.value, constants.R_OK);
        return setting.value;
      } catch (cause) {
        const problem = `is ${JSON.stringify(setting.value)}, a file that cannot be read`;
        throw new TelemetryConfigError(setting.variable, problem, { cause });
      }
    },
  };
}

/** Rejects a setting, showing its value. */
export function reject({ variable, value }: Setting, expected: string): never {
  throw new TelemetryConfigError(variable, `is ${JSON.stringify(value)}, and must be ${expected}`);
}

/** Whether `OTEL_SDK_DISABLED` switches everything off. The specification knows one word for it; nonsense leaves it on. */
export function isSdkDisabled(reader: VariableReader): boolean {
  return reader.text("OTEL_SDK_DISABLED")?.value.toLowerCase() === "true";
}
