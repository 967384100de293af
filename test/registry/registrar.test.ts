import assert from "node:assert/strict";
import { promises as dns } from "node:dns";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { pino } from "pino";
import { RegisterResponseSchema } from "../../src/gen/throughline/v1/registry_pb.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { reloadCallersFile } from "../../src/mesh/access/callers-file.js";
import { createTlsChannelCredentials } from "../../src/mesh/tls/tls-channel.js";
import { reloadTlsMaterial } from "../../src/mesh/tls/tls-material.js";
import { createRegistrar, type RegistrarOptions } from "../../src/registry/registrar.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { serveRaw, trailersOnly } from "../mesh/support/raw-grpc-server.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";
import { steadyPort } from "../support/steady-port.js";
import { startRegistry } from "./support.js";

/** A registrar with quick pauses, and its log: `info registered at a pipeline 127.0.0.1:8080`. */
function register(t: TestContext, pipelines: readonly string[], options: Partial<RegistrarOptions> = {}) {
  const lines: { readonly level: number; readonly msg: string; readonly address?: string; readonly reason?: string }[] =
    [];
  const waiting = new Set<() => void>();
  const logger = pino(
    { level: "info" },
    {
      write(line) {
        lines.push(JSON.parse(line));
        for (const wake of waiting) {
          wake();
        }
      },
    },
  );
  const registrar = createRegistrar({
    pipelines,
    appId: "acme/worker",
    port: 7,
    version: "1",
    backoff: { initialMs: 5, maxMs: 20 },
    resolveEveryMs: 50,
    logger,
    ...options,
  });
  t.after(() => registrar.end());
  return {
    registrar,
    lines,
    /** Resolves when `count` lines match. */
    async logged(pattern: RegExp, count = 1): Promise<void> {
      while (lines.filter(({ msg, reason = "" }) => pattern.test(`${msg} ${reason}`)).length < count) {
        await new Promise<void>((resolve) => {
          const wake = () => {
            waiting.delete(wake);
            resolve();
          };
          waiting.add(wake);
        });
      }
    },
  };
}

/** Makes a host name resolve to addresses, which the test may change. */
function resolveTo(t: TestContext, host: string, addresses: string[]): string[] {
  const { lookup } = dns;
  const fake = async (name: string, options: object) =>
    name === host
      ? addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }))
      : lookup(name, options);
  t.mock.method(dns, "lookup", fake);
  return addresses;
}

suite("registration of a worker", () => {
  test("worker registers with its version, renews, and ends its lease at once", async (t) => {
    const pipeline = await startRegistry(t, { leaseMs: 1_500 });
    const { registrar } = register(t, [pipeline.url]);
    await pipeline.event(/^registered acme\/worker 127\.0\.0\.1:7$/);
    assert.equal(pipeline.leases.own[0]?.version, "1");
    await pipeline.event(/^renewed /);
    await registrar.end();
    assert.equal(pipeline.events.at(-1), "ended acme/worker 127.0.0.1:7");
  });

  test("worker waits for a pipeline that is away, registers again after its restart, and logs changes only", async (t) => {
    const port = await steadyPort();
    const url = `http://127.0.0.1:${port}`;
    const { lines, logged } = register(t, [url]);
    await logged(/^cannot register at a pipeline/);
    const first = await startRegistry(t, { serve: { port } });
    await logged(/^registered/);
    await first.stop();
    await logged(/is lost/);
    const second = await startRegistry(t, { serve: { port } });
    await second.event(/^registered/);
    await logged(/^registered/, 2);
    const messages = lines.map(({ msg }) => msg);
    assert.equal(messages[0], "cannot register at a pipeline: trying again until it succeeds");
    assert.match(lines[0]?.reason ?? "", /^unavailable: the server cannot be reached \(.*ECONNREFUSED/);
    assert.equal(messages.filter((message) => message === "registered at a pipeline").length, 2);
    // Each loss is one line, and the failing attempts after it at most one for each kind.
    assert.ok(messages.length <= 5, messages.join("\n"));
  });

  test("several pipelines each get a lease, and the end of one leaves the other", async (t) => {
    const [one, other] = [await startRegistry(t), await startRegistry(t)];
    const { registrar } = register(t, [one.url, other.url]);
    await Promise.all([one.event(/^registered/), other.event(/^registered/)]);
    await one.stop();
    assert.equal(other.leases.own.length, 1);
    await registrar.end();
    assert.equal(other.leases.own.length, 0);
  });

  test("worker registers at every address of a name, at a new one too, and ends its lease where the name leads no more", async (t) => {
    const port = await steadyPort();
    const addresses = resolveTo(t, "pipelines.test", ["127.0.0.2", "127.0.0.3"]);
    const [one, two, three] = await Promise.all(
      ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map((host) => startRegistry(t, { serve: { host, port } })),
    );
    assert.ok(one && two && three);
    register(t, [`http://pipelines.test:${port}`]);
    await Promise.all([one.event(/^registered/), two.event(/^registered/)]);
    addresses.shift();
    addresses.push("127.0.0.4");
    await Promise.all([one.event(/^ended/), three.event(/^registered/)]);
    assert.equal(two.leases.own.length, 1);
    addresses.length = 0;
    assert.equal(three.leases.own.length, 1);
  });

  test("worker registers once at a pipeline that has an IPv4 and an IPv6 address, by IPv4", async (t) => {
    const port = await steadyPort();
    resolveTo(t, "pipelines.test", ["::1", "127.0.0.1"]);
    const four = await startRegistry(t, { serve: { host: "127.0.0.1", port }, leaseMs: 1_500 });
    const six = await startRegistry(t, { serve: { host: "::1", port } });
    register(t, [`http://pipelines.test:${port}`]);
    await four.event(/^renewed/);
    assert.deepEqual(six.events, []);
  });

  test("worker registers by IPv6 where IPv4 fails, and stays with it", async (t) => {
    const port = await steadyPort();
    resolveTo(t, "pipelines.test", ["127.0.0.1", "::1"]);
    const six = await startRegistry(t, { serve: { host: "::1", port }, leaseMs: 1_500 });
    const { logged } = register(t, [`http://pipelines.test:${port}`]);
    await logged(/^registered/);
    const four = await startRegistry(t, { serve: { host: "127.0.0.1", port } });
    await six.event(/^renewed/);
    assert.deepEqual(four.events, []);
    await six.stop();
    await four.event(/^registered/);
  });

  test("name that cannot be resolved is logged once, and tried again", async (t) => {
    const port = await steadyPort();
    const { lookup } = dns;
    let isKnown = false;
    let lookups = 0;
    t.mock.method(dns, "lookup", async (name: string, options: object) => {
      if (name !== "pipelines.test") {
        return lookup(name, options);
      }
      lookups++;
      if (!isKnown) {
        throw Object.assign(new Error("getaddrinfo ENOTFOUND pipelines.test"), { code: "ENOTFOUND" });
      }
      return [{ address: "127.0.0.1", family: 4 }];
    });
    const pipeline = await startRegistry(t, { serve: { port } });
    const { lines, logged } = register(t, [`http://pipelines.test:${port}`]);
    await logged(/cannot be resolved/);
    isKnown = true;
    await pipeline.event(/^registered/);
    await logged(/^registered/);
    assert.ok(lookups > 1);
    assert.equal(lines.length, 2);
  });

  test("pipeline that takes a stream and answers nothing more is left for another stream", async (t) => {
    let streams = 0;
    const answer = toBinary(RegisterResponseSchema, create(RegisterResponseSchema, { lease: durationFromMs(300) }));
    const { port } = await serveRaw(t, (stream) => {
      streams++;
      stream.respond({ ":status": 200, "content-type": "application/grpc" });
      stream.write(Buffer.from([0, 0, 0, 0, answer.byteLength, ...answer]));
    });
    const { logged } = register(t, [`http://127.0.0.1:${port}`]);
    await logged(/is lost.*the pipeline does not answer/, 2);
    assert.ok(streams >= 2);
  });

  for (const [what, bytes] of [
    ["no lease", []],
    ["a negative lease", [0x0a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]],
    ["no message", [0xff]],
  ] as const) {
    test(`answer with ${what} is a failed attempt`, async (t) => {
      const { port } = await serveRaw(t, (stream) => {
        stream.respond({ ":status": 200, "content-type": "application/grpc" });
        stream.write(Buffer.from([0, 0, 0, 0, bytes.length, ...bytes]));
      });
      const { logged } = register(t, [`http://127.0.0.1:${port}`]);
      await logged(/cannot register .*internal: the pipeline's answer has no lease/);
    });
  }

  test("server without a registry is named as such", async (t) => {
    const { port } = await serveRaw(t, (stream) => trailersOnly(stream, { "grpc-status": "12" }));
    const { logged } = register(t, [`http://127.0.0.1:${port}`]);
    await logged(/cannot register .*unimplemented: .*this server has no registry/);
  });

  test("worker registers with its key over TLS, logs what is missing, and tries until it may", async (t) => {
    const folder = await temporaryFolder();
    const authority = await createAuthority();
    const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
    const files = await writeCertificate(folder, "server", await authority.issue({ name: "pipeline" }));
    const quick = { onRejected() {}, intervalMs: 10 };
    const material = reloadTlsMaterial(files, quick);
    const client = reloadTlsMaterial({ ca }, quick);
    const key = createCallerKey();
    const path = join(folder, "callers.json");
    const write = (register: readonly string[]) =>
      replaceFile(path, JSON.stringify({ callers: [{ name: "workers", keys: [hashCallerKey(key)], register }] }));
    await write(["other/worker"]);
    const callers = reloadCallersFile(path, quick);
    t.after(() => {
      for (const each of [material, client, callers]) {
        each.close();
      }
    });
    const pipeline = await startRegistry(t, { serve: { tls: { material, clientCertificate: "none" }, callers } });
    const url = `https://localhost:${pipeline.port}`;
    const credentials = createTlsChannelCredentials(client);

    const withoutKey = register(t, [url], { credentials });
    await withoutKey.logged(/unauthenticated: .*send a key of the pipeline's callers file/);
    const worker = register(t, [url], { credentials, key: { current: key } });
    await worker.logged(/permission_denied: caller workers may not register this app/);
    await write(["acme/*"]);
    await worker.logged(/^registered/);
    assert.equal(worker.lines.length, 2);
    assert.equal(withoutKey.lines.length, 1);
    assert.ok(![...worker.lines, ...withoutKey.lines].some((line) => JSON.stringify(line).includes(key)));
    const untrusting = register(t, [url]);
    await untrusting.logged(/unavailable: the server cannot be reached \(.*certificate/);
  });

  test("end of a registration does not wait for a pipeline that does not answer", async (t) => {
    let onCall = () => {};
    const called = new Promise<void>((resolve) => {
      onCall = resolve;
    });
    const { port } = await serveRaw(t, onCall);
    const { registrar } = register(t, [`http://127.0.0.1:${port}`, "http://127.0.0.1:1"]);
    await called;
    await registrar.end();
  });
});
