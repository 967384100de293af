import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { suite, test } from "node:test";
import { readPolicies } from "../../../src/mesh/grpc/policies.js";

suite("retry and balancing policy", () => {
  test("policy has a default for every field", () => {
    const policies = readPolicies();
    assert.equal(policies.loadBalancing, "least_wait");
    assert.deepEqual(policies.keepalive, { timeMs: 10_000, timeoutMs: 5_000 });
    assert.equal(policies.retry.maxAttempts, 4);
    assert.deepEqual(readPolicies({}), policies);
  });

  test("policy keeps given values and fills in the defaults", () => {
    const { retry } = readPolicies({ retry: { maxAttempts: 2, budget: { tokenRatio: 0.1 } } });
    assert.deepEqual([retry.maxAttempts, retry.budget], [2, { maxTokens: 100, tokenRatio: 0.1 }]);
  });

  test("every policy field is documented with its default", async () => {
    const text = await readFile(new URL("../../../docs/mesh.md", import.meta.url), "utf8");
    const documented = [...text.matchAll(/^\| `([\w.]+)` \| (?:`(\w+[.\w]*)`|no limit) \|/gm)].map(
      ([, path, value]) => [path, value],
    );
    const leaves = (value: unknown, path: string): [string, string][] =>
      typeof value === "object" && value !== null
        ? Object.entries(value).flatMap(([key, inner]) => leaves(inner, path === "" ? key : `${path}.${key}`))
        : [[path, String(value)]];
    assert.deepEqual(
      documented.filter(([, value]) => value !== undefined),
      leaves(readPolicies(), ""),
    );
    assert.deepEqual(
      documented.flatMap(([path, value]) => (value === undefined ? [path] : [])),
      ["retry.attemptTimeoutMs"],
    );
  });

  const rejected: readonly (readonly [value: unknown, message: RegExp])[] = [
    [{ retryPolicy: { maxAttempts: 3 } }, /^policies\.retryPolicy is unknown$/],
    [{ healthCheckConfig: {} }, /^policies\.healthCheckConfig is unknown$/],
    [
      { retry: { hedgingDelay: "1s", pushback: 1 } },
      /^policies\.retry\.hedgingDelay is unknown; policies\.retry\.pushback is/,
    ],
    [{ retry: { maxAttempts: 6 } }, /^policies\.retry\.maxAttempts: /],
    [{ retry: { maxAttempts: 0 } }, /^policies\.retry\.maxAttempts: /],
    [{ retry: { maxAttempts: 2.5 } }, /^policies\.retry\.maxAttempts: /],
    [{ retry: { initialBackoffMs: "0.05s" } }, /^policies\.retry\.initialBackoffMs: /],
    [
      { retry: { initialBackoffMs: 3_000, maxBackoffMs: 1_000 } },
      /^policies\.retry\.maxBackoffMs: must not be less than/,
    ],
    [{ retry: { budget: { maxTokens: 1001 } } }, /^policies\.retry\.budget\.maxTokens: /],
    [{ retry: { budget: { tokenRatio: 0 } } }, /^policies\.retry\.budget\.tokenRatio: /],
    [{ retry: { attemptTimeoutMs: { seconds: 1, nanos: 0 } } }, /^policies\.retry\.attemptTimeoutMs: /],
    [{ outlierDetection: { interval: "10s" } }, /^policies\.outlierDetection\.interval is unknown$/],
    [{ outlierDetection: { maxEjectionPercent: 101 } }, /^policies\.outlierDetection\.maxEjectionPercent: /],
    [
      { outlierDetection: { baseEjectionTimeMs: 2_000_000 } },
      /^policies\.outlierDetection\.maxEjectionTimeMs: must not/,
    ],
    [{ keepalive: { timeMs: 3_000_000_000 } }, /^policies\.keepalive\.timeMs: /],
    [{ keepalive: { timeMs: Number.NaN } }, /^policies\.keepalive\.timeMs: /],
    [{ reconnect: { initialBackoffMs: 9_000 } }, /^policies\.reconnect\.maxBackoffMs: must not be less than/],
    [{ messages: { maxReceiveBytes: -1 } }, /^policies\.messages\.maxReceiveBytes: /],
    [{ loadBalancing: "ring_hash" }, /^policies\.loadBalancing: /],
    [{ loadBalancing: [{ round_robin: {} }] }, /^policies\.loadBalancing: /],
    [{ retry: { maxAttempts: 9 }, keepalive: { timeMs: 1 } }, /maxAttempts: .*; policies\.keepalive\.timeMs: /],
    ["none", /^policies: /],
    [null, /^policies: /],
  ];
  for (const [value, message] of rejected) {
    test(`policy ${JSON.stringify(value)} is rejected by name`, () => {
      assert.throws(() => readPolicies(value), { message });
    });
  }
});
