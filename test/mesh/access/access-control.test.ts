import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type AccessControlOptions,
  createAccessControl,
  type IncomingCall,
} from "../../../src/mesh/access/access-control.js";
import {
  type CallerIdentity,
  certificateHolders,
  createCallerDirectory,
} from "../../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../../src/mesh/access/caller-keys.js";
import { retryDelayMsOf } from "../../../src/mesh/errors/errors.js";

const key = createCallerKey();
const secondKey = createCallerKey();
const studio: CallerIdentity = {
  name: "studio",
  keys: [hashCallerKey(key), hashCallerKey(secondKey)],
  certificates: ["uri:spiffe://mesh/studio"],
  mayUse: (appId) => appId === "acme/worker",
};

/** What is `current` can be replaced, as a changed file does. */
function reloadable<Value>(current: Value) {
  return { current, onChange() {}, close() {} };
}

function gateOf(callers: readonly CallerIdentity[], options: Omit<AccessControlOptions, "callers"> = {}) {
  const directory = reloadable(createCallerDirectory(callers));
  return { accessControl: createAccessControl({ callers: directory, ...options }), directory };
}

function call(authorization?: string, certificateNames: readonly string[] = [], service = "a.Service"): IncomingCall {
  return { service, authorization, peer: { address: "192.0.2.7", certificateNames } };
}

function errorOf(enter: () => unknown): ConnectError {
  try {
    enter();
  } catch (error) {
    assert.ok(error instanceof ConnectError);
    return error;
  }
  return assert.fail("the call was let in");
}

suite("authentication and rate limits", () => {
  test("permission to register follows the callers file while a call runs", () => {
    const worker: CallerIdentity = { ...studio, mayRegister: (appId) => appId === "acme/worker" };
    const { accessControl, directory } = gateOf([worker]);
    const { caller } = accessControl.admit(call(`Bearer ${key}`));
    assert.equal(caller.address, "192.0.2.7");
    assert.deepEqual([caller.mayRegister?.("acme/worker"), caller.mayRegister?.("acme/other")], [true, false]);
    directory.current = createCallerDirectory([{ ...worker, keys: [] }]);
    assert.equal(caller.mayRegister?.("acme/worker"), false);
    const open = createAccessControl({}).admit(call()).caller;
    assert.deepEqual([open.address, open.mayRegister?.("acme/worker")], ["192.0.2.7", true]);
  });

  test("caller is identified by any of its keys or by its certificate", () => {
    const { accessControl } = gateOf([studio]);
    for (const known of [
      call(`Bearer ${key}`),
      call(`bearer ${secondKey}`),
      call(`Key ${key}`),
      call(undefined, ["dns:x", "uri:spiffe://mesh/studio"]),
    ]) {
      const { caller } = accessControl.admit(known);
      assert.equal(caller.name, "studio");
      assert.equal(caller.countKey, "caller studio");
      assert.ok(caller.mayUse("acme/worker"));
      assert.ok(!caller.mayUse("acme/other"));
    }
  });

  test("unknown credentials are rejected with the same UNAUTHENTICATED message, however close the guess", () => {
    const { accessControl } = gateOf([studio]);
    const messages = new Set<string>();
    for (const outsider of [
      call(),
      call(""),
      call("Bearer"),
      call(`Basic ${key}`),
      call(`Key ${key}x`),
      call("Key"),
      call(`Bearer ${key.slice(0, -1)}`),
      call(`Bearer ${key}x`),
      call(`Bearer ${hashCallerKey(key)}`),
      call(`Bearer ${createCallerKey()}`),
      call(`Bearer ${key} ${key}`),
      call(undefined, ["uri:spiffe://mesh/studio2", "cn:uri:spiffe://mesh/studio"]),
      // A wrong key is not healed by a right certificate.
      call("Bearer x", ["uri:spiffe://mesh/studio"]),
    ]) {
      const error = errorOf(() => accessControl.admit(outsider));
      assert.equal(error.code, Code.Unauthenticated);
      assert.equal(error.metadata.get("www-authenticate"), "Bearer");
      messages.add(error.message);
    }
    assert.equal(messages.size, 1);
  });

  test("caller of a poll is identified without a token of its rate and a slot", () => {
    const limited = { ...studio, maxConcurrent: 1, rate: { perSecond: 0.001, burst: 1, label: "1 request a while" } };
    const { accessControl } = gateOf([limited]);
    for (let poll = 0; poll < 5; poll++) {
      assert.equal(accessControl.identify(call(`Key ${key}`)).name, "studio");
    }
    accessControl.admit(call(`Key ${key}`));
    assert.equal(accessControl.identify(call(`Key ${key}`)).countKey, "caller studio");
    assert.equal(errorOf(() => accessControl.identify(call("Key x"))).code, Code.Unauthenticated);
    assert.equal(createAccessControl({}).identify(call()).countKey, "address 192.0.2.7");
  });

  test("open services accept anonymous clients and count them by address", () => {
    const { accessControl } = gateOf([studio], { openServices: ["grpc.health.v1.Health"] });
    const { caller } = accessControl.admit(call(undefined, [], "grpc.health.v1.Health"));
    assert.deepEqual([caller.name, caller.countKey], [undefined, "address 192.0.2.7"]);
    assert.equal(errorOf(() => accessControl.admit(call())).code, Code.Unauthenticated);
  });

  test("without callers every client is accepted and counted by address", () => {
    const { caller } = createAccessControl({}).admit(call("Bearer whatever"));
    assert.deepEqual([caller.name, caller.countKey, caller.mayUse("a/b")], [undefined, "address 192.0.2.7", true]);
  });

  test("any certificate is accepted when callers are certificate holders", () => {
    const accessControl = createAccessControl({ callers: reloadable(certificateHolders) });
    assert.equal(accessControl.admit(call(undefined, ["dns:worker", "cn:x"])).caller.name, "dns:worker");
    assert.equal(errorOf(() => accessControl.admit(call(`Bearer ${key}`))).code, Code.Unauthenticated);
  });

  test("only callers with mayNameCallers, or any client when no callers are configured, may name other callers", () => {
    const believed = { ...studio, name: "pipeline", keys: [], certificates: ["cn:pipeline"], mayNameCallers: true };
    const { accessControl } = gateOf([studio, believed], { openServices: ["open.Service"] });
    const mayName = (from: ReturnType<typeof createAccessControl>, ...of: Parameters<typeof call>) =>
      from.admit(call(...of)).caller.mayNameCallers === true;
    assert.equal(mayName(accessControl, undefined, ["cn:pipeline"]), true);
    assert.equal(mayName(accessControl, `Bearer ${key}`), false);
    assert.equal(mayName(accessControl, undefined, [], "open.Service"), false);
    assert.equal(
      mayName(createAccessControl({ callers: reloadable(certificateHolders) }), undefined, ["cn:pipeline"]),
      false,
    );
    assert.equal(mayName(createAccessControl({})), true);
  });

  test("server of one app rejects a caller without access to it with PERMISSION_DENIED", () => {
    assert.equal(
      gateOf([studio], { appId: "acme/worker" }).accessControl.admit(call(`Bearer ${key}`)).caller.name,
      "studio",
    );
    const error = errorOf(() => gateOf([studio], { appId: "acme/other" }).accessControl.admit(call(`Bearer ${key}`)));
    assert.equal(error.code, Code.PermissionDenied);
    assert.doesNotMatch(error.message, /acme/);
  });

  test("caller over its rate is rejected with RESOURCE_EXHAUSTED and the delay until the next slot", () => {
    let now = 0;
    const rate = { perSecond: 2, burst: 3, label: "2 requests a second" };
    const { accessControl } = gateOf(
      [
        { ...studio, rate },
        { ...studio, name: "other", keys: [], certificates: ["cn:other"] },
      ],
      {
        now: () => now,
      },
    );
    const enter = () => accessControl.admit(call(`Bearer ${key}`));
    for (let i = 0; i < 3; i++) {
      enter();
    }
    const error = errorOf(enter);
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(retryDelayMsOf(error), 500);
    assert.equal(error.metadata.get("grpc-retry-pushback-ms"), "500");
    assert.match(error.message, /caller studio is over its rate limit of 2 requests a second/);
    assert.equal(accessControl.admit(call(undefined, ["cn:other"])).caller.name, "other");
    now = 250;
    assert.equal(retryDelayMsOf(errorOf(enter)), 250);
    now = 500;
    enter();
    errorOf(enter);
    now = 60_000;
    for (let i = 0; i < 3; i++) {
      enter();
    }
    errorOf(enter);
  });

  test("caller over its running calls is rejected, and each ended call releases one slot once", () => {
    const { accessControl } = gateOf([{ ...studio, maxConcurrent: 2 }]);
    const enter = () => accessControl.admit(call(`Bearer ${key}`));
    const first = enter();
    enter();
    const error = errorOf(enter);
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(retryDelayMsOf(error), 1_000);
    first.release();
    first.release();
    enter();
    errorOf(enter);
  });

  test("call rejected by the rate limit takes no concurrency slot", () => {
    let now = 0;
    const rate = { perSecond: 1, burst: 1, label: "1 request a second" };
    const { accessControl } = gateOf([{ ...studio, rate, maxConcurrent: 1 }], { now: () => now });
    accessControl.admit(call(`Bearer ${key}`)).release();
    errorOf(() => accessControl.admit(call(`Bearer ${key}`)));
    now = 1_000;
    accessControl.admit(call(`Bearer ${key}`));
  });

  test("running calls stay counted when the callers file is reloaded", () => {
    const { accessControl, directory } = gateOf([{ ...studio, maxConcurrent: 1 }]);
    const running = accessControl.admit(call(`Bearer ${key}`));
    const rotated = createCallerKey();
    directory.current = createCallerDirectory([{ ...studio, keys: [hashCallerKey(rotated)], maxConcurrent: 1 }]);
    assert.equal(errorOf(() => accessControl.admit(call(`Bearer ${key}`))).code, Code.Unauthenticated);
    assert.equal(errorOf(() => accessControl.admit(call(`Bearer ${rotated}`))).code, Code.ResourceExhausted);
    running.release();
    accessControl.admit(call(`Bearer ${rotated}`));
  });
});
