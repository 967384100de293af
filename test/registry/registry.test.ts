import assert from "node:assert/strict";
import { connect } from "node:http2";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import * as z from "zod";
import { createPipelineClient } from "../../src/client/client.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { reloadCallersFile } from "../../src/mesh/access/callers-file.js";
import { readAddressRanges } from "../../src/registry/address-ranges.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { failure } from "../mesh/support/grpc-client.js";
import { replaceFile } from "../support/certificates.js";
import { createHeldEngine } from "../support/held-engine.js";
import { openRegister, startRegistry, startWorker } from "./support.js";

const appId = "acme/worker";
const listedWorker = z.object({ address: z.string(), version: z.string().optional() });

/** Callers with keys: workers of `acme`, those of `other`, and a caller that may call but not register. */
async function writeCallers(t: TestContext) {
  const folder = await temporaryFolder();
  const keys = { acme: createCallerKey(), other: createCallerKey(), user: createCallerKey() };
  const entries = [
    { name: "acme", keys: [hashCallerKey(keys.acme)], register: ["acme/*"] },
    { name: "other", keys: [hashCallerKey(keys.other)], register: ["other/worker"] },
    { name: "user", keys: [hashCallerKey(keys.user)], apps: ["*"] },
  ];
  const path = await replaceFile(join(folder, "callers.yaml"), JSON.stringify({ callers: entries }));
  const callers = reloadCallersFile(path, { onRejected() {}, intervalMs: 10 });
  t.after(callers.close);
  return {
    callers,
    /** Resolves when the server has read the new file. */
    async write(next: readonly object[]) {
      const read = new Promise<void>((resolve) => callers.onChange(() => resolve()));
      await replaceFile(path, JSON.stringify({ callers: next }));
      await read;
    },
    bearer: (name: keyof typeof keys) => ({ authorization: `Bearer ${keys[name]}` }),
  };
}

suite("registry of a pipeline, with a stock grpc-js client", () => {
  test("worker that registers is called without any configuration, and no more once it ends its stream", async (t) => {
    const engine = createFakeEngine();
    const worker = await startWorker(t, engine);
    const { port, client, leases } = await startRegistry(t, {
      apps: { "local/configured": { target: "127.0.0.1:1" } },
    });
    const unknown = await failure(client.generate({ prompt: "a heart", workerApp: appId }));
    assert.equal(unknown.code, Code.NotFound);
    const { stream, send, status } = openRegister(t, `127.0.0.1:${port}`);
    assert.equal(await send({ appId, port: worker.port, version: "1.2" }), leases.leaseMs);
    assert.equal((await client.generate({ prompt: "a heart", workerApp: appId })).image?.contentType, "image/png");
    assert.equal(engine.generations, 1);
    stream.end();
    assert.equal((await status).code, "OK");
    const gone = await failure(client.generate({ prompt: "a heart", workerApp: appId }));
    assert.equal(gone.code, Code.Unavailable);
    assert.equal(gone.rawMessage, "no replica of acme/worker is reachable: no worker is registered");
  });

  test("app that is configured and registered has the replicas of both, and a change ends no running call", async (t) => {
    const held = createHeldEngine();
    const [configured, one, two] = [await startWorker(t, held.engine), await startWorker(t), await startWorker(t)];
    const apps = { [appId]: { target: `127.0.0.1:${configured.port}` } };
    const { port, client, url } = await startRegistry(t, { apps });
    const running = client.generate({ prompt: "a heart" });
    await held.reached;
    const streams = [openRegister(t, `127.0.0.1:${port}`), openRegister(t, `127.0.0.1:${port}`)];
    await streams[0]?.send({ appId, port: one.port, version: "7" });
    await streams[1]?.send({ appId, port: two.port });
    const listed = async () => {
      const { apps } = z
        .object({ apps: z.array(z.object({ workers: z.array(listedWorker) })) })
        .parse(await (await fetch(`${url}/apps`)).json());
      return apps[0]?.workers.map(({ address, version }) => [Number(address.split(":")[1]), version]);
    };
    assert.deepEqual(await listed(), [
      [configured.port, undefined],
      [one.port, "7"],
      [two.port, ""],
    ]);
    await client.generate({ prompt: "a heart" });
    streams[0]?.stream.end();
    await streams[0]?.status;
    assert.deepEqual(await listed(), [
      [configured.port, undefined],
      [two.port, ""],
    ]);
    held.release();
    assert.equal((await running).image?.contentType, "image/png");
  });

  test("lease outlives a broken stream until its time is over", async (t) => {
    const worker = await startWorker(t);
    const { port, client, event, events } = await startRegistry(t, { leaseMs: 300 });
    const registration = openRegister(t, `127.0.0.1:${port}`);
    await registration.send({ appId, port: worker.port });
    registration.stream.cancel();
    await event(/^expired /);
    assert.deepEqual(events, [
      `registered acme/worker 127.0.0.1:${worker.port}`,
      `expired acme/worker 127.0.0.1:${worker.port}`,
    ]);
    assert.equal((await failure(client.generate({ prompt: "a heart" }))).code, Code.Unavailable);
  });

  test("worker that comes back on its port takes over the lease of its broken stream", async (t) => {
    const { port, event, leases } = await startRegistry(t);
    const first = openRegister(t, `127.0.0.1:${port}`);
    await first.send({ appId, port: 7 });
    const second = openRegister(t, `127.0.0.1:${port}`);
    await second.send({ appId, port: 7 });
    const { code, details } = await second.status;
    assert.equal(code, "ALREADY_EXISTS");
    assert.match(details, /^127\.0\.0\.1:7 is registered for this app by another connection/);
    first.stream.cancel();
    await first.status;
    // The end of a stream arrives in its own time: a worker tries again.
    let lease: number | undefined;
    while (lease === undefined) {
      lease = await openRegister(t, `127.0.0.1:${port}`).send({ appId, port: 7, version: "2" });
    }
    await event(/registered/);
    assert.deepEqual(
      leases.own.map(({ version }) => version),
      ["2"],
    );
  });

  for (const [what, messages] of [
    ["sends nothing", []],
    ["does not renew", [{ appId, port: 7 }]],
  ] as const) {
    test(`client that ${what} gets DEADLINE_EXCEEDED, and has no lease`, async (t) => {
      const { port, leases } = await startRegistry(t, { leaseMs: 200 });
      const { send, status } = openRegister(t, `127.0.0.1:${port}`);
      for (const message of messages) {
        await send(message);
      }
      assert.deepEqual(await status, {
        code: "DEADLINE_EXCEEDED",
        details: "deadline exceeded: no renewal arrived within the lease of 0.2 s",
      });
      assert.deepEqual(leases.own, []);
    });
  }

  test("renewals keep a lease beyond its first time", async (t) => {
    const { port, leases, events } = await startRegistry(t, { leaseMs: 200 });
    const { send } = openRegister(t, `127.0.0.1:${port}`);
    const until = performance.now() + 600;
    while (performance.now() < until) {
      assert.equal(await send({ appId, port: 7 }), 200);
      await delay(20);
    }
    assert.equal(leases.own.length, 1);
    assert.ok(!events.some((event) => event.startsWith("expired")));
  });

  const wrong = [
    ["no app id", { port: 7 }, /^app_id: value must be an app id of the form owner\/name$/],
    ["an app id without an owner", { appId: "worker", port: 7 }, /^app_id: value must be an app id/],
    ["an address as its app id", { appId: "10.0.0.1:7", port: 7 }, /^app_id: value must be an app id/],
    ["port 0", { appId, port: 0 }, /^port: .*1.*65535/],
    ["port 65536", { appId, port: 65_536 }, /^port: .*1.*65535/],
    ["a version with a line break", { appId, port: 7, version: "1\n2" }, /^version: /],
    ["a version of 65 characters", { appId, port: 7, version: "1".repeat(65) }, /^version: .*64/],
  ] as const;
  for (const [what, message, expected] of wrong) {
    test(`registration with ${what} is INVALID_ARGUMENT`, async (t) => {
      const { port, leases } = await startRegistry(t);
      const { send, status } = openRegister(t, `127.0.0.1:${port}`);
      await send(message);
      const { code, details } = await status;
      assert.equal(code, "INVALID_ARGUMENT");
      assert.match(details, expected);
      assert.deepEqual(leases.own, []);
    });
  }

  test("renewal that names another app or port is INVALID_ARGUMENT, and ends nothing at once", async (t) => {
    const { port, leases } = await startRegistry(t);
    for (const [next, field] of [
      [{ appId: "acme/other", port: 7 }, "app_id"],
      [{ appId, port: 8 }, "port"],
    ] as const) {
      const { send, status } = openRegister(t, `127.0.0.1:${port}`);
      // The lease of the round before has a broken stream.
      await send({ appId, port: 7 });
      await send(next);
      assert.deepEqual(await status, {
        code: "INVALID_ARGUMENT",
        details: `${field}: a renewal must repeat the first message`,
      });
      assert.deepEqual(
        leases.own.map((lease) => lease.port),
        [7],
      );
    }
  });

  test("client that sends renewals and reads no answer is bounded, and others are served", async (t) => {
    const { port, url, event } = await startRegistry(t, {
      leaseMs: 300,
      serve: { limits: { writeTimeoutMs: 300, keepaliveTimeMs: 100 } },
    });
    const session = connect(url, { settings: { initialWindowSize: 20 } });
    t.after(() => session.destroy());
    session.on("error", () => {});
    const stream = session.request({
      ":method": "POST",
      ":path": "/throughline.v1.RegistryService/Register",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => {});
    const closed = new Promise<void>((resolve) => stream.once("close", () => resolve()));
    const message = Buffer.from([0, 0, 0, 0, 15, 0x0a, 11, ...Buffer.from(appId), 0x10, 7]);
    for (let count = 0; count < 2_000; count++) {
      stream.write(message);
    }
    await event(/^registered/);
    await event(/^expired/);
    const other = openRegister(t, `127.0.0.1:${port}`);
    assert.equal(await other.send({ appId, port: 8 }), 300);
    await closed;
  });

  test("client that renews without a pause gets RESOURCE_EXHAUSTED, with what to do", async (t) => {
    const { port } = await startRegistry(t, { leaseMs: 60_000 });
    const { send, status } = openRegister(t, `127.0.0.1:${port}`);
    for (let count = 0; count <= 60; count++) {
      await send({ appId, port: 7 });
    }
    await send({ appId, port: 7 });
    assert.deepEqual(await status, {
      code: "RESOURCE_EXHAUSTED",
      details: "more than 60 renewals within 60 s: renew once in a third of the lease",
    });
  });

  test("limit of leases is RESOURCE_EXHAUSTED, with the number", async (t) => {
    const { port } = await startRegistry(t, { maxLeases: 2 });
    for (const each of [7, 8]) {
      assert.ok(await openRegister(t, `127.0.0.1:${port}`).send({ appId, port: each }));
    }
    const { send, status } = openRegister(t, `127.0.0.1:${port}`);
    await send({ appId, port: 9 });
    assert.deepEqual(await status, {
      code: "RESOURCE_EXHAUSTED",
      details: "the registry has 2 leases, which is its limit",
    });
  });

  test("pipeline that stops ends the streams with UNAVAILABLE, and is not delayed by them", async (t) => {
    const { port, stop } = await startRegistry(t);
    const { send, status } = openRegister(t, `127.0.0.1:${port}`);
    await send({ appId, port: 7 });
    await stop();
    assert.deepEqual(await status, { code: "UNAVAILABLE", details: "the pipeline is shutting down" });
  });
});

suite("who may register", () => {
  test("caller registers only the apps of its entry, and may not call them", async (t) => {
    const worker = await startWorker(t);
    const { callers, bearer } = await writeCallers(t);
    const { port, client, leases, lines } = await startRegistry(t, { serve: { callers } });
    const attempt = async (metadata: Readonly<Record<string, string>>) => {
      const { send, status } = openRegister(t, `127.0.0.1:${port}`, metadata);
      assert.equal(await send({ appId, port: worker.port }), undefined);
      return status;
    };
    for (const name of ["other", "user"] as const) {
      const { code, details } = await attempt(bearer(name));
      assert.equal(code, "PERMISSION_DENIED");
      assert.equal(
        details,
        `caller ${name} may not register this app: the pipeline's callers file must list the app in its field register`,
      );
    }
    assert.equal((await attempt({})).code, "UNAUTHENTICATED");
    assert.equal((await attempt({ authorization: "Bearer wrong" })).code, "UNAUTHENTICATED");
    assert.deepEqual(leases.own, []);
    const rejected = lines.filter((line) => line.includes('"reason":"registration_not_permitted"'));
    assert.match(
      rejected[0] ?? "",
      /"event":"access.rejected".*"caller":"other","peer":"127\.0\.0\.1","method":"throughline\.v1\.RegistryService\/Register"/,
    );

    const { send } = openRegister(t, `127.0.0.1:${port}`, bearer("acme"));
    assert.equal(await send({ appId, port: worker.port }), leases.leaseMs);
    const asked = (name: "acme" | "user") =>
      client.generate({ prompt: "a heart", workerApp: appId }, { headers: bearer(name) });
    assert.equal((await asked("user")).image?.contentType, "image/png");
    assert.equal((await failure(asked("acme"))).code, Code.PermissionDenied);
  });

  test("worker whose permission is revoked loses its lease with the next renewal", async (t) => {
    const { callers, bearer, write } = await writeCallers(t);
    const { port, leases, events } = await startRegistry(t, { serve: { callers } });
    const { send, status } = openRegister(t, `127.0.0.1:${port}`, bearer("acme"));
    assert.ok(await send({ appId, port: 7 }));
    await write([]);
    await send({ appId, port: 7 });
    assert.equal((await status).code, "PERMISSION_DENIED");
    assert.deepEqual(leases.own, []);
    assert.equal(events.at(-1), "ended acme/worker 127.0.0.1:7");
  });

  test("caller of the pipeline still names no address, whatever has registered", async (t) => {
    const worker = await startWorker(t);
    const { port, client } = await startRegistry(t);
    assert.ok(await openRegister(t, `127.0.0.1:${port}`).send({ appId, port: worker.port }));
    for (const workerApp of [`127.0.0.1:${worker.port}`, `ipv4:127.0.0.1:${worker.port}`, "registry:acme/worker"]) {
      assert.equal((await failure(client.generate({ prompt: "a heart", workerApp }))).code, Code.InvalidArgument);
    }
  });

  test("worker names another address only in the listed ranges", async (t) => {
    const worker = await startWorker(t, createFakeEngine(), "127.0.0.2");
    const { port, client, leases } = await startRegistry(t, { allowed: readAddressRanges(["127.0.0.1", "127.0.0.2"]) });
    const denied = openRegister(t, `127.0.0.1:${port}`, { "throughline-address": "127.0.0.3" });
    await denied.send({ appId, port: worker.port });
    const { code, details } = await denied.status;
    assert.equal(code, "PERMISSION_DENIED");
    assert.match(details, /^the named address 127\.0\.0\.3 is not in 127\.0\.0\.1, 127\.0\.0\.2; .*--register-allow/);
    const { send } = openRegister(t, `127.0.0.1:${port}`, { "throughline-address": "127.0.0.2" });
    assert.ok(await send({ appId, port: worker.port }));
    assert.deepEqual(
      leases.own.map(({ host }) => host),
      ["127.0.0.2"],
    );
    assert.equal((await client.generate({ prompt: "a heart" })).image?.contentType, "image/png");
  });

  test("anonymous worker outside the listed ranges is PERMISSION_DENIED", async (t) => {
    const { port } = await startRegistry(t, { allowed: readAddressRanges(["10.0.0.0/8"]) });
    const { send, status } = openRegister(t, `127.0.0.1:${port}`);
    await send({ appId, port: 7 });
    const { code, details } = await status;
    assert.equal(code, "PERMISSION_DENIED");
    assert.match(
      details,
      /^an anonymous worker may register from 10\.0\.0\.0\/8 only, and this connection comes from 127\.0\.0\.1;/,
    );
  });

  test("worker that connects over IPv4 to a port of both families is registered by its IPv4 address", async (t) => {
    const { port, leases } = await startRegistry(t, { serve: { host: "::", open: true } });
    assert.ok(await openRegister(t, `127.0.0.1:${port}`).send({ appId, port: 7 }));
    assert.deepEqual(
      leases.own.map(({ host }) => host),
      ["127.0.0.1"],
    );
  });

  test("worker that connects over IPv6 is called over IPv6", async (t) => {
    const worker = await startWorker(t, createFakeEngine(), "::1");
    const { port, url, leases } = await startRegistry(t, { serve: { host: "::1" } });
    assert.ok(await openRegister(t, `[::1]:${port}`).send({ appId, port: worker.port }));
    assert.deepEqual(
      leases.own.map(({ host }) => host),
      ["::1"],
    );
    const pipeline = createPipelineClient({ baseUrl: url });
    assert.equal((await pipeline.generate({ prompt: "a heart" })).image?.contentType, "image/png");
  });
});
