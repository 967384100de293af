import assert from "node:assert/strict";
import test, { describe } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { Stage } from "../../src/contracts/contracts.js";
import { RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { CallFiguresSchema } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { bytesOfDataUri } from "../../src/page/image/history.js";
import { type Running, timeLeftMs, traceIdOf } from "../../src/page/request/generation.js";
import { phaseLabel, progressDetail, progressText } from "../../src/page/request/progress-text.js";
import { imageFileName } from "../../src/page/request/request-form.js";
import { userErrorOf } from "../../src/page/request/user-error.js";
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
  const figuresWith = (more: object) => figuresText(create(CallFiguresSchema, { ...figures, ...more }));
  assert.deepEqual(figuresWith({}), { rate: "0.8 per min", latency: "1.20 s, p95 1.60 s", errors: "", running: "" });
  assert.deepEqual(
    [figuresWith({ errorCount: 1 }).errors, figuresWith({ running: 2 }).running],
    ["1 error", "2 running"],
  );
  assert.deepEqual(figuresText(undefined), { rate: "", latency: "", errors: "", running: "" });
  assert.equal(askedText(create(CallFiguresSchema, figures)), "0.8 per min, 1.20 s");
  assert.equal(askedText(create(CallFiguresSchema, { ...figures, errorCount: 2, running: 1 })), "2 errors, 1 running");
  assert.equal(askedText(undefined), "nothing lately");
});

describe("time left", () => {
  const marks = (...times: number[]) => times.map((atMs, step) => ({ step, atMs }));

  test("no time is estimated before the second step", () => {
    assert.equal(timeLeftMs([], 20, 0, 0), undefined);
    assert.equal(timeLeftMs(marks(0), 20, 0, 0), undefined);
    assert.equal(timeLeftMs([...marks(0), ...marks(5)], 20, 0, 5), undefined);
  });

  test("time left is the pace of the remaining steps plus the later stages, less the elapsed time", () => {
    assert.equal(timeLeftMs(marks(0, 100, 200), 10, 50, 200), 850);
    assert.equal(timeLeftMs(marks(0, 100, 200), 10, 50, 260), 790);
  });

  test("pace uses the last steps only, since the first one is slow", () => {
    assert.equal(timeLeftMs(marks(0, 5000, 5100, 5200, 5300, 5400, 5500, 5600, 5700, 5800), 19, 0, 5800), 1000);
  });

  test("time left is never negative", () => {
    assert.equal(timeLeftMs(marks(0, 100), 2, 0, 9000), 0);
  });
});

describe("progress texts", () => {
  const sent: Running = {
    kind: "running",
    phase: { kind: "sent" },
    step: 0,
    totalSteps: 0,
    marks: [],
    preview: undefined,
  };
  const queued = (position: number, estimatedWaitMs: number): Running => ({
    ...sent,
    phase: { kind: "queued", position, estimatedWaitMs },
  });
  const at = (stage: Stage, step = 0, totalSteps = 0): Running => ({
    ...sent,
    phase: { kind: "stage", stage },
    step,
    totalSteps,
  });

  test("waiting request shows its position and the estimated wait when known", () => {
    assert.equal(phaseLabel(queued(2, 0)), "Waiting: 2 before you");
    assert.equal(phaseLabel(queued(0, 0)), "Waiting: next in line");
    assert.equal(progressDetail(queued(2, 0), undefined), "");
    assert.equal(progressDetail(queued(2, 3400), undefined), "begins in about 3 s");
    const phase = { kind: "queued", position: 2, estimatedWaitMs: 0, noWorker: true } as const;
    assert.equal(progressDetail({ ...sent, phase }, undefined), "begins when a worker starts");
  });

  test("generation shows its step and the remaining time", () => {
    assert.equal(phaseLabel(at(Stage.DENOISING, 5, 20)), "Denoising");
    assert.equal(progressDetail(at(Stage.DENOISING, 5, 20), undefined), "step 5 of 20");
    assert.equal(progressDetail(at(Stage.DENOISING, 5, 20), 2600), "step 5 of 20, about 3 s left");
    assert.equal(progressDetail(at(Stage.VAE_DECODE, 20, 20), undefined), "");
    assert.equal(phaseLabel(at(99 as Stage)), "Working", "a stage of a newer service");
  });

  test("screen reader announces three phases of a generation", () => {
    const labels = [
      sent,
      queued(1, 0),
      at(Stage.TEXT_ENCODING),
      ...Array.from({ length: 21 }, (_, step) => at(Stage.DENOISING, step, 20)),
    ].map(progressText);
    assert.deepEqual([...new Set(labels)], ["", "Waiting: 1 before you", "Denoising", "Half done"]);
  });
});

describe("user errors", () => {
  test("violation is shown at its field", () => {
    const violation = (path: string, message: string) => ({
      field: { elements: path.split(".").map((fieldName) => ({ fieldName })) },
      message,
    });
    const value = {
      violations: [
        violation("request.options.width", "value must be a multiple of 8"),
        violation("options.delivery", "no"),
      ],
    };
    const problem = userErrorOf(
      new ConnectError("width: …", Code.InvalidArgument, undefined, [{ desc: ViolationsSchema, value }]),
    );
    assert.deepEqual([...problem.fields], [["width", "Value must be a multiple of 8."]]);
    assert.match(problem.advice, /marked fields/);
    assert.equal(problem.detail, "", "the banner does not repeat the paths of the contract");
  });

  test("full queue shows when to retry, and another limit does not", () => {
    const value = { retryDelay: { seconds: 3n, nanos: 500_000_000 } };
    const full = userErrorOf(
      new ConnectError("full", Code.ResourceExhausted, undefined, [{ desc: RetryInfoSchema, value }]),
    );
    assert.equal(full.retryAfterMs, 3500);
    assert.match(full.advice, /about 4 s/);
    assert.equal(userErrorOf(new ConnectError("too large", Code.ResourceExhausted)).retryAfterMs, undefined);
  });

  test("missing key requests one, and no other error does", () => {
    assert.equal(userErrorOf(new ConnectError("", Code.Unauthenticated)).needsKey, true);
    assert.equal(userErrorOf(new ConnectError("", Code.PermissionDenied)).needsKey, false);
  });

  test("lost service is distinguished from one without a worker", () => {
    const gone = userErrorOf(ConnectError.from(new TypeError("Failed to fetch"), Code.Internal));
    assert.match(gone.title, /could not be reached/);
    assert.equal(gone.connectionLost, true);
    assert.match(gone.advice, /throughline dev/);
    assert.equal(userErrorOf(new ConnectError("missing EndStreamResponse", Code.Internal)).title, gone.title);
    assert.match(userErrorOf(new ConnectError("no worker", Code.Unavailable)).title, /No worker/);
  });

  test("every code has a title, advice and the service's message", () => {
    for (const code of Object.values(Code).filter((each) => typeof each === "number")) {
      const { title, advice, detail } = userErrorOf(new ConnectError("the service's own words", code));
      assert.ok(title.length > 10 && !title.endsWith("."), Code[code]);
      assert.ok(advice.endsWith("."), Code[code]);
      assert.equal(detail, "the service's own words");
    }
  });

  test("error that is no call error is shown", () => {
    assert.match(userErrorOf(new Error("surprise")).title, /failed/);
  });
});
