/** Rounds to the nearest whole number, and from the middle to the even one, as numpy, torch and IEEE 754 do. */
export function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}
