import assert from "node:assert/strict";
import test from "node:test";
import { Code } from "@connectrpc/connect";
import { PaintError } from "../../src/engine/engine.js";
import { StoreFullError } from "../../src/image/store-full-error.js";
import { hasReason } from "../../src/mesh/errors/errors.js";
import { paintErrorToConnect, refusalOfPaintError } from "../../src/worker/paint-error-to-connect.js";

test("a request whose engine died in the middle of it may be made once more, one that found it dead as often as any", () => {
  for (const whilePainting of [true, false]) {
    const error = refusalOfPaintError(new PaintError("lost", "the engine died", { whilePainting }));
    assert.deepEqual([error.code, hasReason(error, "ENGINE_LOST")], [Code.Unavailable, whilePainting]);
  }
});

test("a worker whose disk of pictures is full says so without the folder, and forbids to paint it elsewhere", () => {
  const full = new StoreFullError("no space is left in /srv/pictures");
  const error = paintErrorToConnect(full, new AbortController().signal, () => "upload");
  assert.equal(error.message, "[unavailable] the picture cannot be kept: the disk of the pictures is full");
  assert.deepEqual([error.cause, error.metadata.get("grpc-retry-pushback-ms")], [full, "-1"]);
});
