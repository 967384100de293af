const floatView = new Float32Array(1);
const floatBits = new Uint32Array(floatView.buffer);

/*
 * IEEE 754 binary16 as bits in a Uint16Array, because JavaScript has no such type before Node 24. Both conversions are
 * exact where they can be, else to nearest, ties to even.
 */

let decodeTable: Float32Array | undefined;

/** float32 → float16; what is too large becomes infinite. */
export function encodeFloat16(values: Float32Array): Uint16Array {
  // A loop: typed arrays' own `from` takes several times as long.
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    bits[i] = encodeOne(values[i] ?? 0);
  }
  return bits;
}

/** float16 → float32. */
export function decodeFloat16(bits: Uint16Array): Float32Array {
  decodeTable ??= Float32Array.from({ length: 0x10000 }, (_, half) => decodeOne(half));
  const table = decodeTable;
  const values = new Float32Array(bits.length);
  for (let i = 0; i < values.length; i++) {
    values[i] = table[bits[i] ?? 0] ?? 0;
  }
  return values;
}

function encodeOne(value: number): number {
  floatView[0] = value;
  const bits = floatBits[0] ?? 0;
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

/** Rounds to the nearest whole number, and from the middle to the even one, as numpy, torch and IEEE 754 do. */
export function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/*
 * Arithmetic in float32, bit for bit as the vectorised kernels of torch on x86-64 do it. The polynomials are those of Cephes
 * as ATen/native/cpu/avx_mathfun.h has them; where that file multiplies and then adds, its compiler fuses the two.
 */

const round = Math.fround;

const doubleView = new Float64Array(1);
const wordView = new Uint32Array(doubleView.buffer);
const littleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const lowWord = littleEndian ? 0 : 1;

/**
 * `a · b + c` of float32 values, rounded once. The product is exact in double precision; the sum is rounded there first,
 * which goes wrong only where it falls on the midpoint of two float32 values: then its own error decides.
 */
export function fusedMultiplyAdd(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  doubleView[0] = sum;
  const low = wordView[lowWord] ?? 0;
  if ((low & 0x1fffffff) !== 0x10000000) {
    return round(sum);
  }
  // Knuth's TwoSum: the exact error of product + c.
  const back = sum - product;
  const error = product - (sum - back) + (c - back);
  if (error === 0) {
    return round(sum);
  }
  // One step of the double's last place, away from the midpoint to the side of the error.
  const awayFromZero = error > 0 === sum > 0;
  wordView[lowWord] = awayFromZero ? low + 1 : low - 1;
  return round(doubleView[0]);
}

/** Evaluates a polynomial by Horner's rule with fused steps; the leading coefficient comes first. */
function polynomial(x: number, coefficients: readonly number[]): number {
  let y = 0;
  let first = true;
  for (const coefficient of coefficients) {
    y = first ? coefficient : fusedMultiplyAdd(y, x, coefficient);
    first = false;
  }
  return y;
}

const squareRootOfHalf = round(Math.SQRT1_2);
const log2Low = round(-2.1219444e-4);
const log2High = round(0.693359375);
const logCoefficients = [
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
  2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
].map(round);

/** Natural logarithm of a positive normal float32: `log256_ps`. */
export function logarithm(value: number): number {
  floatView[0] = value;
  const bits = floatBits[0] ?? 0;
  let exponent = (bits >>> 23) - 126;
  floatBits[0] = (bits & 0x807fffff) | 0x3f000000;
  let x = floatView[0];
  if (x < squareRootOfHalf) {
    exponent -= 1;
    x = round(round(x - 1) + x);
  } else {
    x = round(x - 1);
  }
  const square = round(x * x);
  let y = round(polynomial(x, logCoefficients) * x);
  y = fusedMultiplyAdd(y, square, round(exponent * log2Low));
  y = fusedMultiplyAdd(-square, 0.5, y);
  return fusedMultiplyAdd(exponent, log2High, round(x + y));
}

const fourOverPi = round(1.27323954473516);
const piQuarterParts = [-0.78515625, -2.4187564849853516e-4, -3.774894977445941e-8].map(round);
const sineCoefficients = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1].map(round);
const cosineCoefficients = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2].map(round);

/** Sine and cosine of a float32 in 0 … 8192: `sincos256_ps`. */
export function sineAndCosine(angle: number): readonly [sine: number, cosine: number] {
  const octant = (Math.trunc(round(angle * fourOverPi)) + 1) & ~1;
  let x = angle;
  for (const part of piQuarterParts) {
    x = fusedMultiplyAdd(octant, part, x);
  }
  const square = round(x * x);
  const cosinePolynomial = round(polynomial(square, cosineCoefficients) * square);
  const nearZero = round(fusedMultiplyAdd(cosinePolynomial, square, -round(square * 0.5)) + 1);
  const nearRight = fusedMultiplyAdd(round(polynomial(square, sineCoefficients) * square), x, x);
  const swapped = (octant & 2) !== 0;
  const sine = swapped ? nearZero : nearRight;
  const cosine = swapped ? nearRight : nearZero;
  return [(octant & 4) !== 0 ? -sine : sine, ((octant - 2) & 4) === 0 ? -cosine : cosine];
}

/** Whether no value is an infinity or no number. */
export function allFinite(values: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    // 0 for every number; NaN, which stays, for an infinity or no number.
    sum += (values[i] ?? 0) * 0;
  }
  return sum === 0;
}
