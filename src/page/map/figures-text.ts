import type { CallFigures } from "../../gen/throughline/studio/v1/studio_pb.js";
import { formatDuration } from "../shell/duration-text.js";

/** What the map says of calls, line by line. */
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

/** Tells figures in words; those that are absent are none. */
export function figuresText(figures: CallFigures | undefined): FiguresText {
  const { count = 0, errorCount = 0, perMinute = 0, medianMs = 0, p95Ms = 0, running = 0 } = figures ?? {};
  return {
    rate: count === 0 ? "" : `${perMinute < 9.95 ? Number(perMinute.toFixed(1)) : Math.round(perMinute)} per min`,
    latency: count === 0 ? "" : `${formatDuration(medianMs)}, p95 ${formatDuration(p95Ms)}`,
    errors: errorCount === 0 ? "" : errorCount === 1 ? "1 error" : `${errorCount} errors`,
    running: running === 0 ? "" : `${running} running`,
  };
}

/** What was asked of an app, in a few words: what is wrong or running before how often and how long. */
export function askedWords(figures: CallFigures | undefined): string {
  const { rate, latency, errors, running } = figuresText(figures);
  const urgent = [errors, running].filter((each) => each !== "").join(", ");
  const median = latency.split(", ")[0] ?? "";
  return urgent || (rate === "" ? "nothing lately" : `${rate}, ${median}`);
}
