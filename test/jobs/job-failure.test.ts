import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { ImageStoreError } from "../../src/image/image-store-error.js";
import { failureOf, statusOf } from "../../src/jobs/job-failure.js";
import { invalidField, unavailableOnce } from "../../src/mesh/errors/errors.js";

const fresh = { attempt: 1, enginesLost: 0 };
const lost = unavailableOnce("the engine died");

describe("a failed attempt", () => {
  it("is final where another one would fail too", () => {
    for (const code of [
      Code.InvalidArgument,
      Code.NotFound,
      Code.Internal,
      Code.DeadlineExceeded,
      Code.ResourceExhausted,
    ]) {
      const failure = failureOf(new ConnectError("no", code), fresh, true);
      assert.ok(failure.kind === "final");
      assert.equal(failure.error.code, code);
    }
  });

  it("is repeated while no worker is reachable, but not for ever", () => {
    const away = new ConnectError("no worker", Code.Unavailable);
    assert.deepEqual(failureOf(away, fresh, false), { kind: "retry", enginesLost: 0, afterMs: 0 });
    assert.deepEqual(failureOf(away, { ...fresh, attempt: 19 }, false).kind, "retry");
    assert.equal(failureOf(away, { ...fresh, attempt: 20 }, false).kind, "final");
  });

  it("that ended an engine is repeated once, and never if the mesh has tried a second engine", () => {
    assert.deepEqual(failureOf(lost, fresh, true), { kind: "retry", enginesLost: 1, afterMs: 0 });
    assert.equal(failureOf(lost, { attempt: 2, enginesLost: 1 }, true).kind, "final");
    assert.equal(failureOf(lost, fresh, false).kind, "final");
  });

  it("whose image does not fit on the disk is repeated later, and then says so", () => {
    const full = new ImageStoreError("full", "no space");
    const failure = failureOf(full, fresh, true);
    assert.ok(failure.kind === "retry" && failure.afterMs > 0);
    const last = failureOf(full, { ...fresh, attempt: 20 }, true);
    assert.ok(last.kind === "final");
    assert.match(last.error.rawMessage, /the image store is full/);
  });

  it("of an unknown kind does not tell its cause", () => {
    const failure = failureOf(new Error("/etc/secret: permission denied"), fresh, true);
    assert.ok(failure.kind === "final");
    assert.equal(failure.error.code, Code.Internal);
    assert.doesNotMatch(statusOf(failure.error).message, /secret/);
  });
});

it("the status of a failed job has the details that a call would get", () => {
  const status = statusOf(invalidField("width", "must be a multiple of 8"));
  assert.equal(status.code, Code.InvalidArgument);
  const [detail] = status.details;
  assert.ok(detail);
  assert.match(JSON.stringify(anyUnpack(detail, ViolationsSchema)), /must be a multiple of 8/);
});
