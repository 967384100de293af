import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { decodeFloat16, encodeFloat16 } from "../../src/engine/floating-point.js";

const one = (value: number): number => encodeFloat16(Float32Array.of(value))[0] ?? -1;

describe("float16", () => {
  it("float16 round trip keeps the bits of every number", () => {
    const all = Uint16Array.from({ length: 0x10000 }, (_, bits) => bits).filter((bits) => (bits & 0x7fff) <= 0x7c00);
    assert.deepEqual(encodeFloat16(decodeFloat16(all)), all);
  });

  it("float16 rounds to nearest, ties to even, and overflows to infinity", () => {
    assert.equal(one(1), 0x3c00);
    assert.equal(one(1 + 2 ** -11), 0x3c00);
    assert.equal(one(1 + 2 ** -11 + 2 ** -20), 0x3c01);
    assert.equal(one(1 + 3 * 2 ** -11), 0x3c02);
    assert.equal(one(-65519), 0xfbff);
    assert.equal(one(65520), 0x7c00);
    assert.equal(one(2 ** -25), 0);
    assert.equal(one(2 ** -25 * 1.5), 1);
    assert.equal(one(2 ** -14 - 2 ** -26), 0x0400);
    assert.equal(one(-0), 0x8000);
  });

  it("float16 keeps NaN", () => {
    assert.ok(Number.isNaN(decodeFloat16(encodeFloat16(Float32Array.of(Number.NaN)))[0]));
  });
});
