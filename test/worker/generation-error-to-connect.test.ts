import assert from "node:assert/strict";
import test from "node:test";
import { Code } from "@connectrpc/connect";
import { GenerationError } from "../../src/engine/engine.js";
import { StoreFullError } from "../../src/image/store-full-error.js";
import { hasReason } from "../../src/mesh/errors/errors.js";
import { generationErrorToConnect, rejectionOfGenerationError } from "../../src/worker/generation-error-to-connect.js";

test("ENGINE_LOST is set only for a request during which the engine died", () => {
  for (const whileGenerating of [true, false]) {
    const error = rejectionOfGenerationError(new GenerationError("lost", "the engine died", { whileGenerating }));
    assert.deepEqual([error.code, hasReason(error, "ENGINE_LOST")], [Code.Unavailable, whileGenerating]);
  }
});

test("full image disk is UNAVAILABLE without the folder's name and forbids a retry elsewhere", () => {
  const full = new StoreFullError("no space is left in /srv/images");
  const error = generationErrorToConnect(full, new AbortController().signal, () => "upload");
  assert.equal(error.message, "[unavailable] the image cannot be kept: the disk of the images is full");
  assert.deepEqual([error.cause, error.metadata.get("grpc-retry-pushback-ms")], [full, "-1"]);
});
