import assert from "node:assert/strict";
import dns from "node:dns";
import { suite, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { type GrpcAddress, watchAddresses } from "../../../src/mesh/grpc/grpc-addresses.js";
import { kinds } from "../support/grpc-client.js";
import { connectTo, quick, serveWorker } from "../support/workers.js";

/** The first word on a target's addresses. */
function firstOf(target: string): Promise<readonly GrpcAddress[] | "failure"> {
  return new Promise((resolve) => {
    const watch = watchAddresses(
      { target, everyMs: 60_000 },
      {
        onAddresses(addresses) {
          watch.stop();
          resolve(addresses);
        },
        onFailure() {
          watch.stop();
          resolve("failure");
        },
      },
    );
  });
}

/** A name whose addresses the test changes: a resolver of grpc-js for the scheme `list:`. */
function registerList() {
  const list = { ports: [] as number[] };
  grpc.experimental.registerResolver(
    "list",
    class {
      readonly listener: grpc.experimental.ResolverListener;
      constructor(_target: grpc.experimental.GrpcUri, listener: grpc.experimental.ResolverListener) {
        this.listener = listener;
      }
      updateResolution() {
        const endpoints = list.ports.map((port) => ({ addresses: [{ host: "127.0.0.1", port }] }));
        globalThis.setImmediate(() => this.listener(grpc.experimental.statusOrFromValue(endpoints), {}, null, ""));
      }
      destroy() {}
      static getDefaultAuthority() {
        return "list";
      }
    },
  );
  return list;
}

suite("addresses of a target", () => {
  for (const [target, expected] of [
    ["ipv4:10.0.0.1:1,10.0.0.2:2,10.0.0.1:1", ["10.0.0.1:1 ipv4:10.0.0.1:1", "10.0.0.2:2 ipv4:10.0.0.2:2"]],
    ["ipv6:[::1]:7", ["[::1]:7 ipv6:[::1]:7"]],
    ["10.0.0.1:3", ["10.0.0.1:3 ipv4:10.0.0.1:3"]],
    ["dns:///10.0.0.1:3", ["10.0.0.1:3 ipv4:10.0.0.1:3"]],
    ["unix:/tmp/a.sock", ["/tmp/a.sock unix:/tmp/a.sock"]],
    ["unix:///tmp/a.sock", ["/tmp/a.sock unix:/tmp/a.sock"]],
  ] as const) {
    test(`addresses are parsed from ${target}`, async () => {
      const found = await firstOf(target);
      assert.ok(found !== "failure");
      assert.deepEqual(
        found.map(({ name, target: own }) => `${name} ${own}`),
        expected,
      );
    });
  }

  test("addresses are resolved by DNS, and keep the name for HTTP/2 and TLS", async () => {
    const found = await firstOf("localhost:50052");
    assert.ok(found !== "failure" && found.length > 0);
    for (const { port, host, grpcOptions } of found) {
      assert.ok(["127.0.0.1", "::1"].includes(host));
      assert.equal(port, 50_052);
      assert.deepEqual(grpcOptions, {
        "grpc.default_authority": "localhost:50052",
        "grpc.ssl_target_name_override": "localhost",
      });
    }
  });

  test("addresses are not reported after the watch is closed", async () => {
    const watch = watchAddresses(
      { target: "ipv4:127.0.0.1:1", everyMs: 60_000 },
      { onAddresses: () => assert.fail("reported"), onFailure: () => assert.fail("reported") },
    );
    watch.stop();
    // The resolver answers in an immediate of its own, which it was given before this one.
    await setImmediate();
    await setImmediate();
  });

  test("name without addresses is a failure", async () => {
    assert.equal(await firstOf("dns:///no-such-host.invalid:1"), "failure");
  });

  test("first replica of a name is found within 3 s, however long the name had none", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
    let isThere = false;
    const lookup = t.mock.method(dns.promises, "lookup", async () => {
      if (!isThere) {
        throw new Error("ENOTFOUND");
      }
      return [{ address: "10.0.0.1", family: 4 }];
    });
    const found: string[] = [];
    const watch = watchAddresses(
      { target: "dns:///scaled-to-zero.example:1", everyMs: 30_000 },
      { onAddresses: (addresses) => found.push(...addresses.map(({ name }) => name)), onFailure() {} },
    );
    t.after(watch.stop);
    /** Time in steps, with whom it wakes. */
    const pass = async (ms: number) => {
      for (let passed = 0; passed < ms; passed += 500) {
        if (passed % 2_000 === 0) {
          watch.refresh();
        }
        t.mock.timers.tick(500);
        await setImmediate();
      }
    };
    await pass(600_000);
    assert.ok(lookup.mock.callCount() > 100);
    assert.deepEqual(found, []);
    isThere = true;
    await pass(3_000);
    assert.deepEqual([...new Set(found)], ["10.0.0.1:1"]);
  });

  test("name without replicas is resolved again before its interval is over", async (t) => {
    const list = registerList();
    const policies = { ...quick, reconnect: { ...quick.reconnect, resolveEveryMs: 3_600_000 } } as const;
    const { client } = connectTo(t, "list:workers", policies);
    await assert.rejects(kinds.unary(client));
    const worker = await serveWorker(t);
    list.ports = [worker.port];
    for (let answer = 0; answer !== 7; ) {
      answer = await kinds.unary(client).catch(() => 0);
    }
  });

  test("addresses are resolved again: an added worker gets calls and a removed one gets none", async (t) => {
    const list = registerList();
    const [first, second] = [await serveWorker(t), await serveWorker(t)];
    list.ports = [first.port];
    const policies = {
      ...quick,
      loadBalancing: "round_robin",
      reconnect: { ...quick.reconnect, resolveEveryMs: 100 },
    } as const;
    const { client } = connectTo(t, "list:workers", policies);
    assert.equal(await kinds.unary(client), 7);
    list.ports = [first.port, second.port];
    while (second.calls === 0) {
      assert.equal(await kinds.unary(client), 7);
    }
    list.ports = [second.port];
    for (let inRow = 0; inRow < 5; ) {
      const before = first.calls;
      assert.equal(await kinds.unary(client), 7);
      inRow = first.calls === before ? inRow + 1 : 0;
    }
  });
});
