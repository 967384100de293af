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
