import type { CallFigures } from "../../gen/throughline/studio/v1/studio_pb.js";
import { formatDuration } from "../shell/duration-text.js";

/** What the map says of calls, line by line. */
export interface FiguresText {
  /** Such as `12 per min`. */
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
    rate: `${perMinute < 9.95 ? Number(perMinute.toFixed(1)) : Math.round(perMinute)} per min`,
    latency: count === 0 ? "" : `${formatDuration(medianMs)}, p95 ${formatDuration(p95Ms)}`,
    errors: errorCount === 0 ? "" : errorCount === 1 ? "1 error" : `${errorCount} errors`,
    running: running === 0 ? "" : `${running} running`,
  };
}
