import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { createHealth, type Health, ServingStatus } from "../../src/connect-health/health.js";
import { Health as HealthService } from "../../src/gen/grpc/health/v1/health_pb.js";

const { NOT_SERVING, SERVICE_UNKNOWN, SERVING } = ServingStatus;
const clientOf = (health: Health) => createClient(HealthService, createRouterTransport(health.routes));

test("health is NOT_SERVING until it is set", async () => {
  const health = createHealth({ services: ["a.B"] });
  const client = clientOf(health);
  assert.equal((await client.check({})).status, NOT_SERVING);
  health.setAll(SERVING);
  assert.equal((await client.check({ service: "a.B" })).status, SERVING);
  assert.equal((await client.check({})).status, SERVING);
});

test("Check of an unknown service is NOT_FOUND", async () => {
  const expected = { code: Code.NotFound };
  await assert.rejects(clientOf(createHealth()).check({ service: "x.Y" }), expected);
});

test("List returns every service", async () => {
  const health = createHealth({ services: ["a.B"] });
  health.setAll(SERVING);
  const { statuses } = await clientOf(health).list({});
  assert.deepEqual(
    Object.entries(statuses).map(([service, { status }]) => [service, status]),
    [
      ["", SERVING],
      ["a.B", SERVING],
    ],
  );
});

suite("Watch", () => {
  const watch = (health: Health, service: string, signal = new AbortController().signal) => {
    const iterator = clientOf(health).watch({ service }, { signal })[Symbol.asyncIterator]();
    return async () => (await iterator.next()).value?.status;
  };

  test("Watch sends the current status and each change once", async () => {
    const health = createHealth({ services: ["a.B"] });
    const next = watch(health, "a.B");
    assert.equal(await next(), NOT_SERVING);
    health.setAll(NOT_SERVING);
    health.setAll(SERVING);
    assert.equal(await next(), SERVING);
  });

  test("Watch sends SERVICE_UNKNOWN for an unknown service and continues", async () => {
    const health = createHealth();
    const next = watch(health, "x.Y");
    assert.equal(await next(), SERVICE_UNKNOWN);
    const end = next();
    health.setAll(SERVING);
    health.close();
    assert.equal(await end, undefined);
  });

  test("Watch sends NOT_SERVING and ends when the server drains, and later changes have no effect", async () => {
    const health = createHealth();
    health.setAll(SERVING);
    const next = watch(health, "");
    assert.equal(await next(), SERVING);
    health.close();
    health.setAll(SERVING);
    assert.equal(await next(), NOT_SERVING);
    assert.equal(await next(), undefined);
    assert.equal((await clientOf(health).check({})).status, NOT_SERVING);
  });

  test("Watch ends when its client disconnects", async () => {
    const health = createHealth();
    const client = new AbortController();
    const next = watch(health, "", client.signal);
    assert.equal(await next(), NOT_SERVING);
    const waiting = next();
    client.abort();
    await assert.rejects(waiting, (error) => ConnectError.from(error).code === Code.Canceled);
  });
});

test("status of one service changes alone, and setting an unknown service is an error", async () => {
  const health = createHealth({ services: ["a.B", "c.D"] });
  const client = clientOf(health);
  health.set("c.D", SERVING);
  assert.equal((await client.check({ service: "a.B" })).status, NOT_SERVING);
  assert.equal((await client.check({ service: "c.D" })).status, SERVING);
  assert.equal((await client.check({})).status, NOT_SERVING);
  assert.throws(() => health.set("x.Y", SERVING), /x\.Y/);
});
