import { accessSync, constants } from "node:fs";
import type { TelemetryVariable } from "./telemetry-variables.js";

/** Environment variables, as `process.env` holds them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** A variable holds a value that means nothing. The message names the variable, the value and what is allowed. */
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

/** The first of these variables that is set, white space trimmed; an empty one is not set. */
export function readSetting(environment: Environment, ...variables: readonly TelemetryVariable[]): Setting | undefined {
  for (const variable of variables) {
    const value = environment[variable]?.trim() ?? "";
    if (value !== "") {
      return { variable, value };
    }
  }
  return undefined;
}

/** Refuses a setting, showing its value. */
export function refuse({ variable, value }: Setting, expected: string): never {
  throw new TelemetryConfigError(variable, `is ${JSON.stringify(value)}, and must be ${expected}`);
}

/** One of a list of words. */
export function readChoice<T extends string>(setting: Setting | undefined, choices: readonly T[], otherwise: T): T {
  if (setting === undefined) {
    return otherwise;
  }
  return choices.find((choice) => choice === setting.value) ?? refuse(setting, `one of ${choices.join(", ")}`);
}

/** A truth value in one of its usual spellings. */
export function readTruth(setting: Setting | undefined, absent: boolean): boolean {
  if (setting === undefined) {
    return absent;
  }
  const word = setting.value.toLowerCase();
  if (["true", "1", "yes", "on"].includes(word)) {
    return true;
  }
  if (["false", "0", "no", "off"].includes(word)) {
    return false;
  }
  return refuse(setting, "true or false");
}

/** The longest time that Node's timers can wait, in milliseconds; they take a longer one for 1. */
export const maxTimerMs = 2 ** 31 - 1;

/** A number within bounds; whole where `integer` says so. */
export function readNumber(
  setting: Setting | undefined,
  bounds: { readonly min: number; readonly max: number; readonly integer: boolean },
): number | undefined {
  if (setting === undefined) {
    return undefined;
  }
  const number = Number(setting.value);
  const fits = number >= bounds.min && number <= bounds.max && (!bounds.integer || Number.isInteger(number));
  if (fits) {
    return number;
  }
  return refuse(setting, `a ${bounds.integer ? "whole " : ""}number from ${bounds.min} to ${bounds.max}`);
}

/**
 * `key=value` pairs, separated by commas, percent-encoded. Values are not shown when the text is refused, because headers hold
 * secrets.
 */
export function readPairs(setting: Setting | undefined): Record<string, string> {
  if (setting === undefined) {
    return {};
  }
  const pairs = setting.value.split(",").filter((pair) => pair.trim() !== "");
  return Object.fromEntries(
    pairs.map((pair, index) => {
      const at = pair.indexOf("=");
      const key = pair.slice(0, at).trim();
      if (at < 1 || key === "") {
        throw new TelemetryConfigError(setting.variable, `must be key=value pairs; pair ${index + 1} is not one`);
      }
      try {
        return [decodeURIComponent(key), decodeURIComponent(pair.slice(at + 1).trim())];
      } catch (cause) {
        throw new TelemetryConfigError(setting.variable, `has a malformed percent-encoding under ${key}`, { cause });
      }
    }),
  );
}

/** The path that a variable says, of a file that can be read. */
export function readFilePath(setting: Setting | undefined): string | undefined {
  if (setting === undefined) {
    return undefined;
  }
  try {
    accessSync(setting.value, constants.R_OK);
    return setting.value;
  } catch (cause) {
    throw new TelemetryConfigError(
      setting.variable,
      `is ${JSON.stringify(setting.value)}, a file that cannot be read`,
      {
        cause,
      },
    );
  }
}
