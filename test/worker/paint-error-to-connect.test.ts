import assert from "node:assert/strict";
import test from "node:test";
import { Code } from "@connectrpc/connect";
import { PaintError } from "../../src/engine/paint-error.js";
import { retryOnceHeader } from "../../src/mesh/errors/errors.js";
import { refusalOfPaintError } from "../../src/worker/paint-error-to-connect.js";

test("a request whose engine died in the middle of it may be made once more, one that found it dead as often as any", () => {
  for (const whilePainting of [true, false]) {
    const { code, metadata } = refusalOfPaintError(new PaintError("lost", "the engine died", { whilePainting }));
    assert.deepEqual([code, metadata.has(retryOnceHeader)], [Code.Unavailable, whilePainting]);
  }
});
