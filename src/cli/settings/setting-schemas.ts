import { z } from "zod";
import { type Device, parseDevice } from "../../engine/device.js";
import { appIdPattern } from "../../mesh/app-id.js";

/** Schemas from what is typed to what is meant. Each message completes "--flag …" or "VARIABLE …". */

const digits = /^\d{1,16}$/;
const decimal = /^\d{1,12}(?:\.\d{1,12})?$/;

/** A whole number of a range, both ends included, and a multiple of `multipleOf` where that is given. */
export function wholeNumber(
  minimum: number,
  maximum: number,
  { multipleOf = 1 }: { readonly multipleOf?: number } = {},
): z.ZodType<number, string> {
  const multiple = multipleOf === 1 ? "" : `, a multiple of ${multipleOf}`;
  return read(`must be a whole number from ${minimum} to ${maximum}${multiple}`, (text) => {
    const value = Number(text);
    return digits.test(text) && value >= minimum && value <= maximum && value % multipleOf === 0 ? value : undefined;
  });
}

/** A decimal number of a range, both ends included. */
export function decimalNumber(minimum: number, maximum: number): z.ZodType<number, string> {
  return read(`must be a number from ${minimum} to ${maximum}`, (text) => {
    const value = Number(text);
    return decimal.test(text) && value >= minimum && value <= maximum ? value : undefined;
  });
}

/** A TCP port; 0 takes a free one. */
export const port: z.ZodType<number, string> = wholeNumber(0, 65_535);

/** Any text but an empty one. */
export const text: z.ZodType<string, string> = read("must not be empty", (value) => (value === "" ? undefined : value));

/** A text that may be empty. */
export const anyText: z.ZodType<string, string> = z.string();

/** Host name or address to listen on, without a port. */
export const host: z.ZodType<string, string> = read("must be a host name or an address without a port", (value) =>
  /^[A-Za-z0-9.-]+$|^[0-9A-Fa-f:.]+$/.test(value) ? value : undefined,
);

/** An app id such as `local/text-to-image-worker`. */
export const appId: z.ZodType<string, string> = read("must be an app id of the form owner/name", (value) =>
  appIdPattern.test(value) ? value : undefined,
);

/** An http or https URL. */
export const httpUrl: z.ZodType<string, string> = read("must be an http:// or https:// URL", (value) =>
  isHttpUrl(value) ? value : undefined,
);

/** URL of a trace in a backend, with `{traceId}` in the place of the id. */
export const traceUrl: z.ZodType<string, string> = read(
  "must be an http:// or https:// URL with {traceId} after its host, such as http://localhost:16686/trace/{traceId}",
  (value) => {
    const filled = value.replaceAll("{traceId}", "0".repeat(32));
    return filled !== value && isHttpUrl(filled) && !new URL(filled).host.includes("0".repeat(32)) ? value : undefined;
  },
);

/** Where a model runs. */
export const device: z.ZodType<Device, string> = read(
  "must be auto, cpu, cuda, tensorrt, webgpu, coreml or dml, or the number of a device after cuda, tensorrt or dml, such as cuda:1",
  parseDevice,
);

/** `true` or `false`; `1` and `0` say the same. */
export const truth: z.ZodType<boolean, string> = read("must be true or false", (value) => truths.get(value));

const truths = new Map([
  ["true", true],
  ["1", true],
  ["false", false],
  ["0", false],
]);

/** One of some words. */
export function oneOf<const Words extends readonly [string, ...string[]]>(
  words: Words,
): z.ZodType<Words[number], string> {
  return read(`must be one of ${words.join(", ")}`, (value) => words.find((word) => word === value));
}

/** Origins of web pages, with commas between them; `*` for any. */
export const origins: z.ZodType<readonly string[], string> = read(
  "must be * or origins such as http://localhost:5173 or http://localhost:*, without a path",
  (value) => {
    const list = value.split(",");
    return list.every((origin) => origin === "*" || isOrigin(origin.replace(/:\*$/, ""))) ? list : undefined;
  },
);

/**
 * App ids with their gRPC targets: `owner/name=host:port`, with commas between them. A target may hold commas itself
 * (`ipv4:10.0.0.1:50052,10.0.0.2:50052`): only what is followed by the next `owner/name=` ends it.
 */
export const workerTargets: z.ZodType<Readonly<Record<string, string>>, string> = read(
  "must be of the form owner/name=host:port, each app once",
  (value) => {
    const targets = new Map<string, string>();
    for (const entry of value.split(/,(?=[^,=/]+\/[^,=/]+=)/)) {
      const [id = "", target = ""] = splitAtFirst(entry, "=");
      if (!appIdPattern.test(id) || target === "" || /\s/.test(target) || targets.has(id)) {
        return undefined;
      }
      targets.set(id, target);
    }
    return Object.fromEntries(targets);
  },
);

/** Makes a schema of a function that gives undefined for nonsense. */
function read<Value>(expectation: string, parse: (text: string) => Value | undefined): z.ZodType<Value, string> {
  return z.string().transform((value, context) => {
    const parsed = parse(value);
    if (parsed === undefined) {
      context.addIssue(expectation);
      return z.NEVER;
    }
    return parsed;
  });
}

function isOrigin(value: string): boolean {
  return isHttpUrl(value) && new URL(value).origin === value;
}

function isHttpUrl(value: string): boolean {
  return URL.canParse(value) && ["http:", "https:"].includes(new URL(value).protocol);
}

function splitAtFirst(value: string, separator: string): string[] {
  const index = value.indexOf(separator);
  return index < 0 ? [value] : [value.slice(0, index), value.slice(index + separator.length)];
}
