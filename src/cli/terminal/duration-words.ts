/** How long, for a person who waits: whole seconds, rounded up. @example `4 s`, `2 min 5 s`, `1 h 3 min`, `3 d 2 h` */
export function durationWords(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 60) {
    return `${seconds} s`;
  }
  const [size, unit, smaller, smallerUnit] =
    seconds < 3600 ? [60, "min", 1, "s"] : seconds < 86_400 ? [3600, "h", 60, "min"] : [86_400, "d", 3600, "h"];
  const rest = Math.floor((seconds % size) / smaller);
  return `${Math.floor(seconds / size)} ${unit}${rest === 0 ? "" : ` ${rest} ${smallerUnit}`}`;
}
