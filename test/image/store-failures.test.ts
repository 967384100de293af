import assert from "node:assert/strict";
import { test } from "node:test";
import { ImageStoreError } from "../../src/image/image-store-error.js";
import { createStoreFailureCounter } from "../../src/image/store-failures.js";
import { testMeter } from "../support/telemetry.js";

test("failed writes to an image store are counted by reason, from 0", async (t) => {
  const collected = testMeter(t);
  const counted = createStoreFailureCounter(collected.meter);
  const read = async () =>
    Object.fromEntries(
      (await collected.read())
        .filter(({ name }) => name === "throughline.image_store.failures")
        .map(({ attributes, value }) => [attributes["throughline.image_store.failure"], value]),
    );
  assert.deepEqual(await read(), { full: 0, unavailable: 0, other: 0 });
  assert.equal(await counted(async () => "stored"), "stored");
  const full = new ImageStoreError("full", "no space");
  await assert.rejects(
    counted(() => Promise.reject(full)),
    full,
  );
  await assert.rejects(counted(() => Promise.reject(new Error("x"))));
  assert.deepEqual(await read(), { full: 1, unavailable: 0, other: 1 });
});
