import assert from "node:assert/strict";
import test from "node:test";
import { Code } from "@connectrpc/connect";
import { GenerationError } from "../../src/engine/engine.js";
import { StoreFullError } from "../../src/image/store-full-error.js";
import { hasReason } from "../../src/mesh/errors/errors.js";
import { userErrorOf } from "../../src/page/request/user-error.js";
import { generationErrorToConnect, rejectionOfGenerationError } from "../../src/worker/generation-error-to-connect.js";

test("ENGINE_LOST is set only for a request during which the engine died", () => {
  for (const whileGenerating of [true, false]) {
    const error = rejectionOfGenerationError(new GenerationError("lost", "the engine died", { whileGenerating }));
    assert.deepEqual([error.code, hasReason(error, "ENGINE_LOST")], [Code.Unavailable, whileGenerating]);
  }
});

test("a request with several wrong fields is rejected with all of them, in text and as violations", () => {
  const violations = [
    { field: "width", message: "this model takes a multiple of 32 from 64 to 256" },
    { field: "steps", message: "this model takes a whole number from 1 to 50" },
  ] as const;
  const error = rejectionOfGenerationError(new GenerationError("unsupported", "two wrong fields", { violations }));
  assert.equal(error.code, Code.InvalidArgument);
  assert.equal(
    error.rawMessage,
    "options.width: this model takes a multiple of 32 from 64 to 256; " +
      "options.num_inference_steps: this model takes a whole number from 1 to 50",
  );
  const shown = [...userErrorOf(error).fields];
  assert.deepEqual(shown, [
    ["width", "This model takes a multiple of 32 from 64 to 256."],
    ["steps", "This model takes a whole number from 1 to 50."],
  ]);
});

test("full image disk is UNAVAILABLE without the folder's name and forbids a retry elsewhere", () => {
  const full = new StoreFullError("no space is left in /srv/images");
  const error = generationErrorToConnect(full, new AbortController().signal, () => "upload");
  assert.equal(error.message, "[unavailable] the image cannot be kept: the disk of the images is full");
  assert.deepEqual([error.cause, error.metadata.get("grpc-retry-pushback-ms")], [full, "-1"]);
});
