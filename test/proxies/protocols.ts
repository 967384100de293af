import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { Agent, fetch } from "undici";
import { createPipelineClient } from "../../src/client/client.js";
import { connectApp } from "../../src/mesh/balance/connect-app.js";
import { readPolicies } from "../../src/mesh/grpc/policies.js";
import { createTlsChannelCredentials } from "../../src/mesh/tls/tls-channel.js";
import { reloadTlsMaterial } from "../../src/mesh/tls/tls-material.js";
import { drain, failureOf, generate, generateStream, streamStepByStep } from "./support/calls.js";
import { createCleanup } from "./support/cleanup.js";
import type { Client } from "./support/client.js";
import { openGrpcClient } from "./support/grpc-client.js";
import { clients } from "./support/open-clients.js";
import { type Proxied, startProxied } from "./support/proxied.js";
import type { ShippedProxy } from "./support/shipped-proxy.js";
import type { System } from "./support/system.js";

const limit = { timeout: 60_000 };

/** A request with many wrong fields, whose error has large details. */
const wrong = {
  prompt: "",
  worker_app: "http://x",
  options: {
    ...{ width: 1, height: 1, num_inference_steps: 1_000, guidance_scale: 99, strength: 2, quality: 1_000 },
    loras: Array.from({ length: 20 }, () => ({ name: "", scale: 1_000 })),
  },
};

/** Calls of every protocol through a proxy with its shipped configuration. */
export function describeProtocols(title: string, proxy: ShippedProxy, system: System, curls: boolean): void {
  suite(`${title}: protocols`, { skip: proxy.missing }, () => {
    let proxied: Proxied;
    const cleanup = createCleanup();
    before(async () => {
      proxied = await startProxied(cleanup, system, proxy);
    });

    for (const [name, open] of Object.entries(clients)) {
      suite(name, { skip: name.includes("curl") && !curls && "curl is not installed" }, () => {
        let client: Client;
        before(() => {
          client = open(proxied.server);
        });
        after(() => client.close());

        test("unary call returns an image", limit, async () => {
          proxied.useHeld().release();
          const answer = await client.unary(generate, { prompt: "a red heart" });
          assert.match(JSON.stringify(answer), /"url":"data:image\/png;base64,/);
        });

        test("progress arrives while the engine waits for it", limit, async () => {
          await streamStepByStep(client, proxied.useHeld());
        });

        for (const [kind, call] of [
          ["unary call", (options: object) => client.unary(generate, { prompt: "x" }, options)],
          ["stream", (options: object) => drain(client.stream(generateStream, { request: { prompt: "x" } }, options))],
        ] as const) {
          test(`cancelled ${kind} stops the engine`, limit, async () => {
            const held = proxied.useHeld();
            const abort = new AbortController();
            const ended = call({ signal: abort.signal });
            ended.catch(() => {});
            await held.reached;
            abort.abort();
            assert.equal(await held.ended, "stopped");
            await assert.rejects(ended);
            assert.equal(held.generations(), 1);
          });

          test(`deadline of a ${kind} reaches the pipeline, and stops the engine`, limit, async () => {
            const held = proxied.useHeld();
            const { code } = await failureOf(call({ timeoutMs: 2_000 }));
            assert.equal(code, "DEADLINE_EXCEEDED");
            assert.equal(await held.ended, "stopped");
            assert.equal(held.generations(), 1);
          });

          test(`error of a ${kind} arrives with all its details`, limit, async () => {
            const request = kind === "stream" ? { request: wrong } : wrong;
            const path = kind === "stream" ? generateStream : generate;
            const make = (from: Client) =>
              failureOf(kind === "stream" ? drain(from.stream(path, request)) : from.unary(path, request));
            const direct = openGrpcClient({ ...proxied.server, port: proxied.upstreamPort }, "pipeline.internal");
            const expected = await make(direct);
            direct.close();
            const failure = await make(client);
            assert.equal(failure.code, "INVALID_ARGUMENT");
            assert.ok(failure.rules.length > 10, `${failure.rules.length} rules`);
            assert.deepEqual(failure.rules, expected.rules);
          });
        }

        test("unknown method is UNIMPLEMENTED", limit, async () => {
          const path = "throughline.v1.ImagePipelineService/Unknown";
          assert.equal((await failureOf(client.unary(path, {}))).code, "UNIMPLEMENTED");
        });

        test(
          "message of 12 MB is read, and one over the limit is RESOURCE_EXHAUSTED with the limit",
          limit,
          async () => {
            const read = await failureOf(client.unary(generate, { prompt: "x".repeat(12_000_000) }));
            assert.equal(read.code, "INVALID_ARGUMENT");
            const tooLarge = await failureOf(client.unary(generate, { prompt: "x".repeat(14_000_000) }));
            assert.equal(tooLarge.code, "RESOURCE_EXHAUSTED");
            assert.match(tooLarge.message, /limit of 12582912 bytes/);
          },
        );
      });
    }

    test("client of the mesh calls and streams", limit, async (t) => {
      const material = reloadTlsMaterial({ ca: proxied.server.caFile }, { onRejected() {} });
      const own = connectApp({
        appId: "proxied/pipeline",
        target: `localhost:${proxied.port}`,
        policies: readPolicies({}),
        credentials: createTlsChannelCredentials(material),
      });
      t.after(() => {
        own.close();
        material.close();
      });
      const held = proxied.useHeld();
      const pipeline = createPipelineClient({ transport: own.transport });
      for await (const { event } of pipeline.generateStream({ request: { prompt: "a red heart" } })) {
        if (event.case === "progress" && event.value.step > 0) {
          held.release();
        }
      }
      assert.equal(await held.ended, "finished");
      assert.match((await pipeline.generate({ prompt: "a red heart" })).image?.url ?? "", /^data:image\/png/);
    });

    test("health checks over gRPC and HTTP, and AWS's, pass", limit, async () => {
      const client = openGrpcClient(proxied.server);
      assert.equal((await client.unary("grpc.health.v1.Health/Check", {}))["status"], "SERVING");
      assert.equal((await failureOf(client.unary("AWS.ALB/healthcheck", {}))).code, "UNIMPLEMENTED");
      client.close();
      const dispatcher = new Agent({ connect: { ca: proxied.server.ca } });
      const ready = await fetch(`https://localhost:${proxied.port}/readyz`, { dispatcher });
      assert.deepEqual([ready.status, await ready.text()], [200, "serving\n"]);
      await dispatcher.close();
    });

    const ownChecks = proxy.name === "nginx" && "nginx's open version makes none";
    test("proxy's own health check passes", { ...limit, skip: ownChecks }, async () => {
      await proxied.healthy();
      assert.equal(await proxied.hasPassedCheck?.(), true);
    });

    test("streamed image of OpenAI's API arrives event by event", limit, async () => {
      const held = proxied.useHeld();
      const dispatcher = new Agent({ connect: { ca: proxied.server.ca } });
      const response = await fetch(`https://localhost:${proxied.port}/v1/images/generations`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: "a red heart", stream: true, partial_images: 3 }),
        dispatcher,
      });
      assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
      let text = "";
      for await (const chunk of response.body ?? []) {
        text += Buffer.from(chunk).toString();
        if (text.includes("event: image_generation.partial_image")) {
          held.release();
        }
      }
      assert.match(text, /event: image_generation.partial_image[\s\S]*event: image_generation.completed/);
      await dispatcher.close();
    });
  });
}
