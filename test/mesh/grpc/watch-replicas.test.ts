import assert from "node:assert/strict";
import { suite, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import type { RegisteredReplica } from "../../../src/mesh/grpc/registered-replicas.js";
import { registryTarget } from "../../../src/mesh/grpc/registered-replicas.js";
import { watchReplicas } from "../../../src/mesh/grpc/watch-replicas.js";

/** A name whose resolution the test decides: a resolver of grpc-js for the scheme `told:`. */
function registerTold() {
  const told: { answer: readonly number[] | "failure" | "silence"; asked: () => void } = {
    answer: "silence",
    asked() {},
  };
  grpc.experimental.registerResolver(
    "told",
    class {
      readonly listener: grpc.experimental.ResolverListener;
      constructor(_target: grpc.experimental.GrpcUri, listener: grpc.experimental.ResolverListener) {
        this.listener = listener;
      }
      updateResolution() {
        const { answer } = told;
        if (answer === "silence") {
          return;
        }
        const endpoints =
          answer === "failure" ? [] : answer.map((port) => ({ addresses: [{ host: "10.0.0.1", port }] }));
        const result: grpc.experimental.StatusOr<grpc.experimental.Endpoint[]> =
          answer === "failure"
            ? grpc.experimental.statusOrFromError({ code: grpc.status.UNAVAILABLE, details: "no such name" })
            : grpc.experimental.statusOrFromValue(endpoints);
        setImmediate(() => {
          this.listener(result, {}, null, "");
          told.asked();
        });
      }
      destroy() {}
      static getDefaultAuthority() {
        return "told";
      }
    },
  );
  return told;
}

const told = registerTold();
const replica = (port: number): RegisteredReplica => ({ host: port > 100 ? "fd00::7" : "10.0.0.1", port, version: "" });

/** Watches a target with registered replicas, which the test changes. */
function watch(target: string, ...ports: readonly number[]) {
  let current = ports.map(replica);
  const listeners = new Set<() => void>();
  const reported: string[] = [];
  const watching = watchReplicas(
    {
      target,
      everyMs: 60_000,
      registered: {
        get current() {
          return current;
        },
        onChange(listener) {
          listeners.add(listener);
          return () => void listeners.delete(listener);
        },
      },
    },
    {
      onAddresses: (addresses) => void reported.push(addresses.map(({ name }) => name).join(" ")),
      onFailure: () => void reported.push("failure"),
    },
  );
  return {
    reported,
    ...watching,
    register(...next: readonly number[]) {
      current = next.map(replica);
      for (const notify of listeners) {
        notify();
      }
    },
    get listeners() {
      return listeners.size;
    },
    /** Has the name resolved now. */
    resolve: (answer: typeof told.answer) =>
      new Promise<void>((resolve) => {
        told.answer = answer;
        told.asked = resolve;
        watching.refresh();
      }),
  };
}

suite("addresses of a target and of registered replicas", () => {
  test("app without a target has its registered replicas, from the start and none at the end", () => {
    const watching = watch(registryTarget("acme/worker"), 1);
    watching.register(1, 200);
    watching.register();
    watching.refresh();
    watching.stop();
    watching.register(3);
    assert.deepEqual(watching.reported, ["10.0.0.1:1", "10.0.0.1:1 [fd00::7]:200", ""]);
    assert.equal(watching.listeners, 0);
  });

  test("registered replicas stand behind those of the name, each address once, and before the name is resolved", async () => {
    told.answer = "silence";
    const watching = watch("told:name");
    assert.deepEqual(watching.reported, []);
    watching.register(2);
    await watching.resolve([1, 2]);
    watching.register(2, 3);
    await watching.resolve([1]);
    watching.stop();
    assert.deepEqual(watching.reported, [
      "10.0.0.1:2",
      "10.0.0.1:1 10.0.0.1:2",
      "10.0.0.1:1 10.0.0.1:2 10.0.0.1:3",
      "10.0.0.1:1 10.0.0.1:2 10.0.0.1:3",
    ]);
  });

  test("name that cannot be resolved hides no registered replica, and keeps none that has gone", async () => {
    told.answer = "silence";
    const watching = watch("told:name");
    await watching.resolve("failure");
    watching.register(2);
    await watching.resolve("failure");
    watching.register();
    await watching.resolve("failure");
    watching.stop();
    assert.deepEqual(watching.reported, ["failure", "10.0.0.1:2", "", "failure"]);
  });
});
