import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";
import { createCallDemand, type JobDemand, wantedAfterMs } from "../../src/calls/demand.js";
import { ExternalScaler } from "../../src/gen/externalscaler/externalscaler_pb.js";
import { callerContextKey } from "../../src/mesh/access/callers.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createScalerService } from "../../src/scaler/scaler-service.js";
import { createWork } from "../../src/scaler/work.js";

/** Numbers of jobs that the test sets. */
function createJobCounts() {
  const counts = new Map<string, number>();
  const listeners: ((app: string | undefined) => void)[] = [];
  let isAway = false;
  const jobs: JobDemand = {
    counts: async () => (isAway ? Promise.reject(new Error("password=secret")) : counts),
    onChange: (listener) => void listeners.push(listener),
  };
  return {
    jobs,
    set(app: string, count: number, notifies = true) {
      counts.set(app, count);
      if (notifies) {
        for (const listener of listeners) {
          listener(app);
        }
      }
    },
    away(away: boolean) {
      isAway = away;
      // As after a lost connection: what was counted before does not hold.
      for (const listener of listeners) {
        listener(undefined);
      }
    },
  };
}

function start(t: TestContext, mayUse: (app: string) => boolean = () => true) {
  let now = 0;
  const calls = createCallDemand(() => now);
  const { jobs, ...control } = createJobCounts();
  const ending = new AbortController();
  const service = createScalerService({
    directory: createAppDirectory({ apps: { "a/one": { target: "localhost:1" }, "a/two": { target: "localhost:2" } } }),
    work: createWork({ calls, jobs }),
    ending: ending.signal,
    logger: pino({ level: "silent" }),
  });
  const caller = { name: "keda", countKey: "keda", mayUse };
  const transport = createRouterTransport((router) => router.service(ExternalScaler, service), {
    router: {
      interceptors: [
        (next) => (request) => {
          request.contextValues.set(callerContextKey, caller);
          return next(request);
        },
      ],
    },
  });
  t.after(() => ending.abort());
  const pass = (ms: number) => {
    now += ms;
  };
  return { scaler: createClient(ExternalScaler, transport), calls, end: () => ending.abort(), pass, ...control };
}

const refTo = (app: string, targetPerReplica = "1") => ({
  name: "workers",
  namespace: "throughline",
  scalerMetadata: { scalerAddress: "image-pipeline-keda:9466", app, targetPerReplica },
});
const metricOf = (app: string) => ({ scaledObjectRef: refTo(app), metricName: "throughline-work" });

suite("external scaler", () => {
  test("GetMetricSpec returns the target of the trigger, also below 1", async (t) => {
    const { scaler } = start(t);
    for (const [target, float, whole] of [
      ["1", 1, 1n],
      ["2.5", 2.5, 3n],
      ["0.25", 0.25, 1n],
    ] as const) {
      const { metricSpecs } = await scaler.getMetricSpec(refTo("a/one", target));
      assert.deepEqual(
        metricSpecs.map(({ $typeName: _, ...spec }) => spec),
        [{ metricName: "throughline-work", targetSizeFloat: float, targetSize: whole }],
      );
    }
  });

  test("GetMetrics adds up jobs and calls of the app alone", async (t) => {
    const { scaler, calls, set } = start(t);
    set("a/one", 3);
    set("a/two", 40);
    calls.begin("a/two");
    const end = calls.begin("a/one");
    calls.begin("a/one");
    const read = async () => (await scaler.getMetrics(metricOf("a/one"))).metricValues[0];
    const { $typeName: _, ...value } = (await read()) ?? assert.fail();
    assert.deepEqual(value, { metricName: "throughline-work", metricValueFloat: 5, metricValue: 5n });
    end();
    assert.equal((await read())?.metricValueFloat, 4);
  });

  test("IsActive is true while there is work and for a minute after a call", async (t) => {
    const { scaler, calls, set, pass } = start(t);
    const isActive = async () => (await scaler.isActive(refTo("a/one"))).result;
    assert.equal(await isActive(), false);
    set("a/one", 1);
    assert.equal(await isActive(), true);
    set("a/one", 0);
    assert.equal(await isActive(), false);
    calls.begin("a/one")();
    assert.equal(await isActive(), true);
    assert.equal((await scaler.getMetrics(metricOf("a/one"))).metricValues[0]?.metricValueFloat, 0);
    pass(wantedAfterMs);
    assert.equal(await isActive(), false);
  });

  for (const [name, metadata, expected] of [
    ["without metadata", {}, ["scalerMetadata.app", "scalerMetadata.targetPerReplica"]],
    ["with an address instead of an app", { app: "host:50052", targetPerReplica: "1" }, ["scalerMetadata.app"]],
    ["with a target of 0", { app: "a/one", targetPerReplica: "0" }, ["scalerMetadata.targetPerReplica"]],
    ["with a negative target", { app: "a/one", targetPerReplica: "-1" }, ["scalerMetadata.targetPerReplica"]],
    ["with a target that is no number", { app: "a/one", targetPerReplica: "1e3" }, ["scalerMetadata.targetPerReplica"]],
    [
      "with a target beyond the limit",
      { app: "a/one", targetPerReplica: "1000001" },
      ["scalerMetadata.targetPerReplica"],
    ],
    ["with a misspelt field", { app: "a/one", targetPerReplca: "1" }, ["scalerMetadata.targetPerReplica"]],
  ] as const) {
    test(`trigger ${name} gets INVALID_ARGUMENT that names the field and the remedy`, async (t) => {
      const { scaler } = start(t);
      const ref = { name: "x", namespace: "y", scalerMetadata: { ...metadata } };
      const stream = async () => {
        for await (const _ of scaler.streamIsActive(ref)) {
          assert.fail("a state");
        }
      };
      for (const call of [
        () => scaler.isActive(ref),
        () => scaler.getMetricSpec(ref),
        () => scaler.getMetrics({ scaledObjectRef: ref, metricName: "throughline-work" }),
        stream,
      ]) {
        const error = ConnectError.from(
          await Promise.resolve(call()).then(
            () => assert.fail(),
            (thrown) => thrown,
          ),
        );
        assert.equal(error.code, Code.InvalidArgument);
        for (const field of expected) {
          assert.ok(error.rawMessage.includes(`${field}: must be`), error.rawMessage);
        }
        assert.match(error.rawMessage, /set it in the trigger's metadata/);
        assert.equal(error.rawMessage.split("scalerMetadata.").length - 1, expected.length);
      }
    });
  }

  test("unknown app, metric and missing reference are rejected", async (t) => {
    const { scaler } = start(t);
    await assert.rejects(scaler.isActive(refTo("a/three")), { code: Code.NotFound, rawMessage: /a\/one, a\/two/ });
    await assert.rejects(scaler.getMetrics({ metricName: "throughline-work" }), { code: Code.InvalidArgument });
    await assert.rejects(scaler.getMetrics({ scaledObjectRef: refTo("a/one"), metricName: "s0-x" }), {
      code: Code.InvalidArgument,
      rawMessage: "metricName: must be throughline-work, as GetMetricSpec returns it",
    });
  });

  test("caller that may not use the app gets PERMISSION_DENIED, whether or not the app exists", async (t) => {
    const { scaler } = start(t, (app) => app === "a/one");
    assert.equal((await scaler.isActive(refTo("a/one"))).result, false);
    for (const app of ["a/two", "a/none"]) {
      await assert.rejects(scaler.isActive(refTo(app)), { code: Code.PermissionDenied });
    }
  });

  test("without the jobs' database, calls get UNAVAILABLE without its error, and a stream stays as it is", async (t) => {
    const { scaler, set, away } = start(t);
    set("a/one", 1);
    const states = scaler.streamIsActive(refTo("a/one"))[Symbol.asyncIterator]();
    assert.equal((await states.next()).value?.result, true);
    away(true);
    for (const call of [scaler.isActive(refTo("a/one")), scaler.getMetrics(metricOf("a/one"))]) {
      const error = ConnectError.from(
        await call.then(
          () => assert.fail(),
          (thrown) => thrown,
        ),
      );
      assert.equal(error.code, Code.Unavailable);
      assert.ok(!error.rawMessage.includes("secret"));
    }
    away(false);
    set("a/one", 0);
    assert.equal((await states.next()).value?.result, false);
  });

  test("StreamIsActive sends the state at once, each change, and no state twice", async (t) => {
    const { scaler, calls, set } = start(t);
    const states = scaler.streamIsActive(refTo("a/one"))[Symbol.asyncIterator]();
    assert.equal((await states.next()).value?.result, false);
    const next = states.next();
    set("a/two", 1);
    set("a/one", 1);
    assert.equal((await next).value?.result, true);
    set("a/one", 2);
    set("a/one", 0);
    assert.equal((await states.next()).value?.result, false);
    // Without a notification, by the next look.
    set("a/one", 1, false);
    assert.equal((await states.next()).value?.result, true);
    set("a/one", 0);
    assert.equal((await states.next()).value?.result, false);
    calls.begin("a/one");
    assert.equal((await states.next()).value?.result, true);
  });

  test("StreamIsActive ends without an error when the pipeline drains", async (t) => {
    const { scaler, end } = start(t);
    const states = scaler.streamIsActive(refTo("a/one"))[Symbol.asyncIterator]();
    await states.next();
    const next = states.next();
    await setImmediate();
    end();
    assert.equal((await next).done, true);
  });
});
