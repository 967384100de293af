import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { drain, failureOf, generate, generateStream } from "./support/calls.js";
import type { Client } from "./support/client.js";
import { clients } from "./support/open-clients.js";
import { startProxied } from "./support/proxied.js";
import type { Change, ShippedProxy } from "./support/shipped-proxy.js";
import type { System } from "./support/system.js";

const limit = { timeout: 60_000 };
const createJob = "throughline.v1.JobService/CreateJob";
const watchJob = "throughline.v1.JobService/WatchJob";

/** Retries as many guides set them. */
const eager: Readonly<Record<string, readonly Change[]>> = {
  Envoy: [["retry_on: connect-failure,refused-stream", "retry_on: 5xx,reset,connect-failure"]],
  HAProxy: [["retry-on conn-failure", "retry-on all-retryable-errors"]],
};

/** Id of a job among the fields of a response. */
function idOf({ job }: Readonly<Record<string, unknown>>): string {
  assert.ok(typeof job === "object" && job !== null && "id" in job && typeof job.id === "string");
  return job.id;
}

/** The pipeline's connection breaks while the engine runs. */
export function describeRetries(title: string, proxy: ShippedProxy, system: System): void {
  suite(`${title}: retries`, { skip: proxy.missing }, () => {
    const calls: Readonly<Record<string, (client: Client) => Promise<unknown>>> = {
      "unary call": (client) => client.unary(generate, { prompt: "x" }),
      stream: (client) => drain(client.stream(generateStream, { request: { prompt: "x" } })),
    };
    for (const [name, open] of Object.entries(clients).filter(([each]) => !each.includes("curl"))) {
      for (const [kind, call] of Object.entries(calls)) {
        test(
          `connection that breaks during a ${kind} ends it, and the engine has run once: ${name}`,
          limit,
          async (t) => {
            const proxied = await startProxied(t, system, proxy);
            // A broken first check would take the pipeline out.
            await proxied.healthy();
            const client = open(proxied.server);
            t.after(() => client.close());
            const held = proxied.useHeld();
            const ended = call(client);
            ended.catch(() => {});
            await held.reached;
            proxied.cut();
            if (kind === "stream") {
              await assert.rejects(ended);
            } else {
              assert.equal((await failureOf(ended)).code, "UNAVAILABLE");
            }
            assert.equal(await held.ended, "stopped");
            assert.equal(held.generations(), 1);
            // The next call gets a new connection.
            proxied.useHeld().release();
            await client.unary(generate, { prompt: "x" });
          },
        );
      }

      test(
        `job that is submitted again with its request_id after a broken connection runs once: ${name}`,
        limit,
        async (t) => {
          const proxied = await startProxied(t, system, proxy);
          await proxied.healthy();
          const client = open(proxied.server);
          t.after(() => client.close());
          const held = proxied.useHeld();
          const request = { generate: { prompt: "x" }, request_id: `${title}: ${name}` };
          const first = await client.unary(createJob, request);
          await held.reached;
          proxied.cut();
          const again = await client.unary(createJob, request).catch(() => client.unary(createJob, request));
          assert.equal(idOf(again), idOf(first));
          held.release();
          await drain(client.stream(watchJob, { id: idOf(first) }));
          assert.equal(await held.ended, "finished");
          assert.equal(held.generations(), 1);
        },
      );
    }

    const none = eager[proxy.name] === undefined && "it sends no POST again";
    test("with retries of broken connections, the engine would run again", { ...limit, skip: none }, async (t) => {
      const proxied = await startProxied(t, system, proxy, eager[proxy.name]);
      await proxied.healthy();
      const client = clients["gRPC (grpc-js)"]?.(proxied.server) ?? assert.fail();
      t.after(() => client.close());
      const held = proxied.useHeld();
      const ended = client.unary(generate, { prompt: "x" });
      await held.reached;
      proxied.cut();
      assert.equal(await held.ended, "stopped");
      held.release();
      await ended;
      assert.equal(held.generations(), 2);
    });
  });
}
