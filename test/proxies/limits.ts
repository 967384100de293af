import assert from "node:assert/strict";
import { once } from "node:events";
import { suite, test } from "node:test";
import * as tls from "node:tls";
import { drain, failureOf, generate, generateStream } from "./support/calls.js";
import type { Client } from "./support/client.js";
import { clients } from "./support/open-clients.js";
import { type Proxied, startProxied } from "./support/proxied.js";
import type { Change, ShippedProxy } from "./support/shipped-proxy.js";
import type { System } from "./support/system.js";

const limit = { timeout: 60_000 };

/** Each proxy's time-outs for idle connections of clients and pipeline, shortened from 60 s. */
const shortIdle: Readonly<Record<string, readonly Change[]>> = {
  Envoy: [["idle_timeout: 60s", "idle_timeout: 1s"]],
  nginx: [["keepalive_timeout 60s", "keepalive_timeout 1s"]],
  HAProxy: [["timeout http-keep-alive 60s", "timeout http-keep-alive 1s"]],
};

/** Each proxy's time-out for a call in which nothing is sent, shortened from an hour. */
const shortSilence: Readonly<Record<string, readonly Change[]>> = {
  Envoy: [["stream_idle_timeout: 3600s", "stream_idle_timeout: 1s"]],
  nginx: [
    ["grpc_read_timeout 1h", "grpc_read_timeout 1s"],
    ["proxy_read_timeout 1h", "proxy_read_timeout 1s"],
  ],
  HAProxy: [["timeout server 1h", "timeout server 1s"]],
};

/** Time-outs, and the check of the pipeline's certificate. */
export function describeLimits(title: string, proxy: ShippedProxy, system: System): void {
  suite(`${title}: time-outs and certificates`, { skip: proxy.missing }, () => {
    const { "gRPC (grpc-js)": grpc, "gRPC-Web (fetch)": grpcWeb, "Connect with JSON (fetch)": connect } = clients;
    const opened = Object.entries({ gRPC: grpc, "gRPC-Web": grpcWeb, Connect: connect });

    /** Runs a test with a proxy of its own, with a client of each protocol. */
    const withProxy = (
      name: string,
      changes: readonly Change[] = [],
      run: (proxied: Proxied, client: Client) => Promise<void>,
    ) => {
      suite(name, () => {
        for (const [protocol, open] of opened) {
          test(protocol, limit, async (t) => {
            const proxied = await startProxied(t, system, proxy, changes);
            const client = open?.(proxied.server) ?? assert.fail();
            t.after(() => client.close());
            await run(proxied, client);
          });
        }
      });
    };

    withProxy(
      "stream in which nothing is sent outlives the time-outs of idle connections",
      shortIdle[proxy.name],
      async (proxied, client) => {
        const held = proxied.useHeld();
        const ended = drain(client.stream(generateStream, { request: { prompt: "x" } }));
        ended.catch(() => {});
        await held.reached;
        // Opened later than the stream, and closed for its idleness.
        const idle = tls.connect({ port: proxied.port, servername: "localhost", ca: proxied.server.ca });
        idle.on("error", () => {}).resume();
        await once(idle, "secureConnect");
        idle.write("GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n");
        await once(idle, "close");
        held.release();
        await ended;
        assert.equal(await held.ended, "finished");
        assert.equal(held.generations(), 1);
      },
    );

    withProxy(
      "stream in which nothing is sent for longer than its own time-out fails, and stops the engine",
      shortSilence[proxy.name],
      async (proxied, client) => {
        const held = proxied.useHeld();
        await assert.rejects(drain(client.stream(generateStream, { request: { prompt: "x" } })));
        assert.equal(await held.ended, "stopped");
        assert.equal(held.generations(), 1);
      },
    );

    const refuses = async (proxied: Proxied, client: Client) => {
      const held = proxied.useHeld();
      assert.equal((await failureOf(client.unary(generate, { prompt: "x" }))).code, "UNAVAILABLE");
      assert.equal(held.generations(), 0);
    };
    withProxy(
      "pipeline gets no call if its certificate is for another name",
      [["pipeline.internal", "other.internal"]],
      refuses,
    );
    withProxy(
      "pipeline gets no call if its certificate is of another authority",
      [["/ca.crt", "/foreign-ca.crt"]],
      refuses,
    );
  });
}
