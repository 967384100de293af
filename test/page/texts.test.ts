import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { CallFiguresSchema } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { bytesOfDataUri } from "../../src/page/image/history.js";
import { traceIdOf } from "../../src/page/request/generation.js";
import { imageFileName } from "../../src/page/request/request-form.js";
import { backOffMs } from "../../src/page/service/connection.js";
import {
  askedText,
  figuresText,
  formatAge,
  formatDuration,
  roughDuration,
  serviceColour,
  valueText,
} from "../../src/page/shell/format.js";

test("durations have three digits, and estimates and ages are whole numbers", () => {
  assert.deepEqual([0.4142, 41.42, 414.2, 1534, 75_000, 125_000].map(formatDuration), [
    "0.41 ms",
    "41.4 ms",
    "414 ms",
    "1.53 s",
    "75.0 s",
    "2 min 5 s",
  ]);
  assert.deepEqual([0, 1400, 125_000].map(roughDuration), ["1 s", "1 s", "2 min 5 s"]);
  assert.deepEqual([-50, 4999, 12_000, 200_000, 7_300_000, 90_000_000, 180_000_000].map(formatAge), [
    "now",
    "now",
    "12 s ago",
    "3 min ago",
    "2 h ago",
    "25 h ago",
    "2 days ago",
  ]);
});

test("image file name contains the prompt and seed and is no path", () => {
  assert.equal(imageFileName("A red heart, 3D!", 7, "image/png"), "a-red-heart-3d-seed-7.png");
  assert.equal(imageFileName("../../etc/passwd", 0, "image/webp"), "etc-passwd-seed-0.webp");
  assert.equal(imageFileName("😀", 1, "image/jpeg"), "image-cb31c4b8-seed-1.jpg");
  assert.equal(imageFileName("word ".repeat(400), 1, "image/png").length <= 60 + "-seed-1.png".length, true);
});

test("data URI is decoded, and another URL is not", () => {
  const read = bytesOfDataUri("data:image/png;base64,AAH/");
  assert.deepEqual([read?.contentType, ...(read?.bytes ?? [])], ["image/png", 0, 1, 255]);
  assert.equal(bytesOfDataUri("http://127.0.0.1/images/a.png"), undefined);
});

test("backoff grows to fifteen seconds with 20 % jitter", () => {
  assert.deepEqual(
    [1, 2, 3, 20].map((failures) => backOffMs(failures, 0.5)),
    [1000, 1600, 2560, 15_000],
  );
  assert.deepEqual([backOffMs(1, 0), backOffMs(1, 1)], [800, 1200]);
});

test("service has the same color everywhere", () => {
  assert.deepEqual(["image-pipeline", "text-to-image-worker"].map(serviceColour), [0, 1]);
  for (const name of ["upscaler", "", "captioner", "ünïcode"]) {
    const colour = serviceColour(name);
    assert.ok(colour >= 2 && colour <= 7, name);
    assert.equal(serviceColour(name), colour);
  }
  assert.notEqual(serviceColour("upscaler"), serviceColour("captioner"));
});

test("attribute values of every type become text", () => {
  const text = (value: Parameters<typeof create<typeof ValueSchema>>[1]) => valueText(create(ValueSchema, value));
  assert.equal(text({ kind: { case: "numberValue", value: 0 } }), "0");
  assert.equal(text({ kind: { case: "boolValue", value: false } }), "false");
  const one = create(ValueSchema, { kind: { case: "stringValue", value: "cpu" } });
  assert.equal(text({ kind: { case: "listValue", value: { values: [one, one] } } }), "cpu, cpu");
  assert.equal(text({ kind: { case: "structValue", value: { fields: { device: one } } } }), "device: cpu");
  assert.equal(text({}), "");
});

test("trace id is read from the response header", () => {
  const id = "4e59a70947e16460dd0641a9b92f3047";
  assert.equal(traceIdOf(`00-${id}-00f067aa0ba902b7-01`), id);
  assert.equal(traceIdOf(`00-${"0".repeat(32)}-00f067aa0ba902b7-01`), undefined);
  assert.equal(traceIdOf("nonsense"), undefined);
  assert.equal(traceIdOf(null), undefined);
});

test("statistics text omits zero values", () => {
  const figures = { count: 4, errorCount: 0, perMinute: 0.8, medianMs: 1200, p95Ms: 1600, running: 0 };
  const told = (more: object) => figuresText(create(CallFiguresSchema, { ...figures, ...more }));
  assert.deepEqual(told({}), { rate: "0.8 per min", latency: "1.20 s, p95 1.60 s", errors: "", running: "" });
  assert.deepEqual([told({ errorCount: 1 }).errors, told({ running: 2 }).running], ["1 error", "2 running"]);
  assert.deepEqual(figuresText(undefined), { rate: "", latency: "", errors: "", running: "" });
  assert.equal(askedText(create(CallFiguresSchema, figures)), "0.8 per min, 1.20 s");
  assert.equal(askedText(create(CallFiguresSchema, { ...figures, errorCount: 2, running: 1 })), "2 errors, 1 running");
  assert.equal(askedText(undefined), "nothing lately");
});
