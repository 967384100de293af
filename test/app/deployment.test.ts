import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import * as z from "zod";
import { defaultGraceMs, livenessPath, readinessPath, teardownMs } from "../../src/app/lifecycle.js";
import { workerOptions } from "../../src/cli/options/command-options.js";
import { readPolicies } from "../../src/mesh/grpc/policies.js";
import { defaultCancelMs } from "../../src/mesh/port/listen.js";
import { flushMs } from "../../src/trace/telemetry/telemetry.js";
import { defaultAppId } from "../../src/worker/default-app-id.js";

const read = (path: string) => readFileSync(new URL(`../../docs/${path}`, import.meta.url), "utf8");
const page = read("deployment.md");

/** Milliseconds that an app may take after its grace. */
const endMs = defaultCancelMs + Math.max(teardownMs, flushMs);

const port = z.object({ port: z.literal(workerOptions.port.defaultValue) });
const manifest = z.object({
  spec: z.object({
    strategy: z.object({ rollingUpdate: z.object({ maxUnavailable: z.literal(0) }) }),
    template: z.object({
      spec: z.object({
        terminationGracePeriodSeconds: z.int(),
        containers: z.tuple([
          z.object({
            args: z.tuple([z.literal("worker"), z.literal("--app"), z.literal(defaultAppId)]),
            env: z.array(z.object({ name: z.string(), value: z.string() })),
            startupProbe: z.object({ grpc: port }),
            readinessProbe: z.object({ grpc: port }),
            livenessProbe: z.object({ httpGet: port.extend({ path: z.literal(livenessPath) }) }),
            lifecycle: z.object({ preStop: z.object({ sleep: z.object({ seconds: z.int() }) }) }),
          }),
        ]),
      }),
    }),
  }),
});

test("Kubernetes manifest allows the full shutdown time and uses existing settings", () => {
  const { terminationGracePeriodSeconds, containers } = manifest.parse(parse(read("kubernetes/worker.yaml"))).spec
    .template.spec;
  const [{ env, lifecycle }] = containers;
  const values = new Map(env.map(({ name, value }) => [name, value]));
  assert.equal(values.get("THROUGHLINE_GRACE"), String(workerOptions.grace.defaultValue));
  assert.equal(values.get("THROUGHLINE_WORKER_PORT"), String(workerOptions.port.defaultValue));
  const variables = new Set(Object.values(workerOptions).map(({ envVar }) => envVar));
  assert.deepEqual(
    [...values.keys()].filter((name) => !variables.has(name)),
    [],
  );
  const needed = lifecycle.preStop.sleep.seconds + (defaultGraceMs + endMs) / 1000;
  assert.equal(terminationGracePeriodSeconds, needed);
});

test("docs/deployment.md has the numbers of the code", () => {
  const { keepalive } = readPolicies();
  for (const statement of [
    `GET ${livenessPath}`,
    `GET ${readinessPath}`,
    `\`--grace\` ${defaultGraceMs / 1000} s`,
    `at most ${endMs / 1000} s`,
    `(${defaultCancelMs / 1000} s), then shut down (${teardownMs / 1000} s) and export the last spans (${flushMs / 1000} s)`,
    `(${defaultCancelMs / 1000} s), then shuts down its parts (${teardownMs / 1000} s) and exports the last spans (${flushMs / 1000} s)`,
    `(default ${defaultGraceMs / 1000} s)`,
    `at least preStop + grace + ${endMs / 1000} s: ${5 + (defaultGraceMs + endMs) / 1000}`,
    `${keepalive.timeMs / 1000} s between pings and ${keepalive.timeoutMs / 1000} s for the answer, ${(keepalive.timeMs + keepalive.timeoutMs) / 1000} s together`,
  ]) {
    assert.ok(page.includes(statement), statement);
  }
});
