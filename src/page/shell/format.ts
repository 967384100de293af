import type { Value } from "@bufbuild/protobuf/wkt";
import type { CallFigures, Span } from "../../gen/throughline/studio/v1/studio_pb.js";

/** A duration to three digits. @example `0.41 ms`, `41.2 ms`, `412 ms`, `1.53 s`, `2 min 5 s` */
export function formatDuration(ms: number): string {
  if (ms >= 119_500) {
    return minutes(ms);
  }
  const [value, unit] = ms < 999.5 ? [ms, "ms"] : [ms / 1000, "s"];
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${unit}`;
}

/** A duration that is only guessed. @example `1 s`, `12 s`, `2 min 5 s` */
export function roughDuration(ms: number): string {
  const seconds = Math.max(1, Math.round(ms / 1000));
  return seconds < 120 ? `${seconds} s` : minutes(seconds * 1000);
}

/** How long ago something was. @example `now`, `12 s ago`, `3 min ago`, `2 h ago`, `4 days ago` */
export function formatAge(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 5) {
    return "now";
  }
  const steps = [
    [86_400, "days"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ] as const;
  const [unit, name] = steps.find(([size]) => seconds >= size * (size === 86_400 ? 2 : 1)) ?? [1, "s"];
  return `${Math.floor(seconds / unit)} ${name} ago`;
}

function minutes(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** An attribute's value as a person reads it: a text as it is, a list with commas between. */
export function valueText({ kind }: Value): string {
  switch (kind.case) {
    case "stringValue":
      return kind.value;
    case "numberValue":
    case "boolValue":
      return String(kind.value);
    case "listValue":
      return kind.value.values.map(valueText).join(", ");
    case "structValue":
      return Object.entries(kind.value.fields)
        .map(([name, value]) => `${name}: ${valueText(value)}`)
        .join(", ");
    case "nullValue":
    case undefined:
      return "";
  }
}

/** Attributes in the order of their names, as text. */
export function attributeRows(attributes: Readonly<Record<string, Value>>): readonly (readonly [string, string])[] {
  return Object.entries(attributes)
    .map(([name, value]) => [name, valueText(value)] as const)
    .sort(([a], [b]) => a.localeCompare(b));
}

/** Whether the span ended in an error. */
export function isError(span: Span): boolean {
  return span.status === "ERROR";
}

/** How many colours the style sheet has: `--service-0` and so on. */
const colours = 8;

/** The two services that everybody has: the two colours that are farthest apart. */
const own: ReadonlyMap<string, number> = new Map([
  ["image-pipeline", 0],
  ["text-to-image-worker", 1],
]);

/** The number of a service's colour: always the same for the same name, wherever it is drawn. */
export function serviceColour(service: string): number {
  const number = own.get(service);
  if (number !== undefined) {
    return number;
  }
  // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
  let hash = 2_166_136_261;
  for (const character of service) {
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16_777_619) >>> 0;
  }
  return own.size + (hash % (colours - own.size));
}

/** Labels of a call in the map. */
export interface FiguresText {
  /** Such as `12 per min`; empty where nothing has ended. */
  readonly rate: string;
  /** Such as `1.2 s, p95 1.6 s`; empty where nothing has ended. */
  readonly latency: string;
  /** Such as `2 errors`; empty for none. */
  readonly errors: string;
  /** Such as `1 running`; empty for none. */
  readonly running: string;
}

/** Formats the figures of a call; absent ones count as 0. */
export function figuresText(figures: CallFigures | undefined): FiguresText {
  const { count = 0, errorCount = 0, perMinute = 0, medianMs = 0, p95Ms = 0, running = 0 } = figures ?? {};
  return {
    rate: count === 0 ? "" : `${perMinute < 9.95 ? Number(perMinute.toFixed(1)) : Math.round(perMinute)} per min`,
    latency: count === 0 ? "" : `${formatDuration(medianMs)}, p95 ${formatDuration(p95Ms)}`,
    errors: errorCount === 0 ? "" : errorCount === 1 ? "1 error" : `${errorCount} errors`,
    running: running === 0 ? "" : `${running} running`,
  };
}

/** Label of an app in the map: errors and running requests, else rate and median. */
export function askedText(figures: CallFigures | undefined): string {
  const { rate, latency, errors, running } = figuresText(figures);
  const urgent = [errors, running].filter((each) => each !== "").join(", ");
  const median = latency.split(", ")[0] ?? "";
  return urgent || (rate === "" ? "nothing lately" : `${rate}, ${median}`);
}
