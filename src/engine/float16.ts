import { roundHalfToEven } from "./round-half-to-even.js";

/**
 * IEEE 754 binary16 as bits in a Uint16Array, because JavaScript has no such type before Node 24. Both conversions are
 * exact where they can be, else to nearest, ties to even.
 */

const floatView = new Float32Array(1);
const bitsView = new Uint32Array(floatView.buffer);
let decodeTable: Float32Array | undefined;

/** float32 → float16; what is too large becomes infinite. */
export function encodeFloat16(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, encodeOne);
}

/** float16 → float32. */
export function decodeFloat16(bits: Uint16Array): Float32Array {
  decodeTable ??= Float32Array.from({ length: 0x10000 }, (_, half) => decodeOne(half));
  const table = decodeTable;
  return Float32Array.from(bits, (half) => table[half] ?? 0);
}

function encodeOne(value: number): number {
  floatView[0] = value;
  const bits = bitsView[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) {
    return sign | 0x7e00;
  }
  // From 65520 on, the nearest float16 is infinity.
  if (magnitude >= 0x477ff000) {
    return sign | 0x7c00;
  }
  // Below 2^-14 values are multiples of 2^-24.
  if (magnitude < 0x38800000) {
    return sign | roundHalfToEven(Math.abs(floatView[0]) * 2 ** 24);
  }
  const rebiased = magnitude - (112 << 23);
  const shifted = rebiased >>> 13;
  const rest = rebiased & 0x1fff;
  return sign | (shifted + (rest > 0x1000 || (rest === 0x1000 && (shifted & 1) === 1) ? 1 : 0));
}

function decodeOne(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) {
    return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  }
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}
