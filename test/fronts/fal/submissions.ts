import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { jobApp } from "../../support/job-mesh.js";
import { type FalTests, heldHeader, locationsOf, prompt } from "./fal-tests.js";

export function describeSubmissions(fal: FalTests): void {
  const { post, get, completed, jobsOf, useHeld, useFake, keys } = fal;

  test("a submission with an Idempotency-Key makes one job, and another input with it is 422", async () => {
    const header = { "idempotency-key": "order 7" };
    const first = (await post(`/${jobApp}`, { prompt }, header)).body.request_id;
    assert.equal((await post(`/${jobApp}`, { prompt }, header)).body.request_id, first);
    const other = await post(`/${jobApp}`, { prompt: "another" }, header);
    assert.deepEqual([other.status, locationsOf(other)], [422, ["header.idempotency-key"]]);
    assert.notEqual((await post(`/${jobApp}`, { prompt })).body.request_id, first);
  });

  test("a wrong or used request id is reported at the header that was sent", async () => {
    const names = ["idempotency-key", "x-fal-request-id"];
    for (const name of names) {
      const long = await post(`/${jobApp}`, { prompt }, { [name]: "x".repeat(200) });
      assert.deepEqual([long.status, locationsOf(long)], [422, [`header.${name}`]]);
      const header = { [name]: `order of ${name}` };
      assert.equal((await post(`/${jobApp}`, { prompt }, header)).status, 200);
      const used = await post(`/${jobApp}`, { prompt: "another" }, header);
      assert.deepEqual([used.status, locationsOf(used)], [422, [`header.${name}`]]);
    }
    const both = await post(`/${jobApp}`, { prompt }, Object.fromEntries(names.map((name) => [name, "x".repeat(200)])));
    assert.deepEqual(locationsOf(both), ["header.idempotency-key"]);
  });

  test("a submission whose client left before the answer is found again by its retry, and only once", async () => {
    const jobs = jobsOf(keys.anna);
    const input = JSON.stringify({ prompt: "a lost answer" });
    const { hostname, port } = new URL(fal.mesh.url);
    const socket = connect(Number(port), hostname);
    await once(socket, "connect");
    const known = new Set((await jobs.listJobs({})).jobs.map(({ id }) => id));
    socket.write(
      `POST /${jobApp} HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Key ${keys.anna}\r\ncontent-type: application/json\r\n` +
        `${heldHeader}: 1\r\ncontent-length: ${input.length}\r\n\r\n${input}`,
      () => socket.resetAndDestroy(),
    );
    let created: string | undefined;
    while (created === undefined) {
      created = (await jobs.listJobs({})).jobs.find(({ id }) => !known.has(id))?.id;
    }
    assert.equal((await post(`/${jobApp}`, input)).body.request_id, created);
    assert.notEqual((await post(`/${jobApp}`, input)).body.request_id, created);
  });

  test("start timeout, priority and an allowed webhook reach the job", async () => {
    const held = useHeld(1);
    await post(`/${jobApp}`, { prompt });
    await held.reached;
    const headers = { "x-fal-request-timeout": "1.0", "x-fal-queue-priority": "low", "x-fal-runner-hint": "any" };
    const { body } = await post(`/${jobApp}?fal_webhook=https://hooks.invalid/x`, { prompt }, headers);
    const done = await completed(body.status_url);
    assert.deepEqual([done.body.status, done.body.error_type], ["COMPLETED", "startup_timeout"]);
    const { status, header } = await get(body.response_url);
    assert.deepEqual([status, header.get("x-fal-request-timeout-type")], [504, "user"]);
    const run = await post(`/fal/run/${jobApp}`, { prompt }, { "x-fal-request-timeout": "1" });
    assert.deepEqual([run.status, run.header.get("x-fal-request-timeout-type")], [504, "user"]);
    held.release();
    useFake();
  });
}
