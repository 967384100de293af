import assert from "node:assert/strict";
import { createServer } from "node:net";
import { suite, type TestContext, test } from "node:test";
import { pino } from "pino";
import * as z from "zod";
import type { Protection } from "../../src/app/protection.js";
import { openMetricsPort } from "../../src/cli/services/serve-app.js";
import { OpenServerError } from "../../src/mesh/port/listen-exposure.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { runCommand, startCommand } from "./support/run-command.js";

const line = z.object({ msg: z.string(), url: z.string().optional() });

/** A port with the metrics of a service. */
async function open(t: TestContext, protection: Protection = {}, host = "127.0.0.1") {
  const urls: string[] = [];
  const logger = pino(
    {},
    {
      write: (text) => {
        const { url } = line.parse(JSON.parse(text));
        if (url !== undefined) {
          urls.push(url);
        }
      },
    },
  );
  const telemetry = createTelemetry({ serviceName: "worker", environment: {}, log: logger, prometheusPort: 0 });
  assert.ok(telemetry.prometheus);
  const port = await openMetricsPort(telemetry.prometheus, { host, protection, logger });
  t.after(async () => {
    await port.close();
    await telemetry.shutdown();
  });
  return { ...telemetry, url: urls.at(-1) ?? "" };
}

/** Prometheus' text format, strictly: help and type before the samples of a metric, each metric once. */
function parseProm(text: string) {
  assert.ok(text.endsWith("\n"));
  const types = new Map<string, string>();
  const samples = new Map<string, number>();
  for (const each of text.trimEnd().split("\n")) {
    const [, type, kind] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(each) ?? [];
    if (type !== undefined && kind !== undefined) {
      assert.ok(!types.has(type), `${type} twice`);
      types.set(type, kind);
    } else if (!/^# (?:HELP|UNIT) \S+ \S|^# no registered metrics$/.test(each)) {
      const [, name = "", labels = "", value] =
        /^([a-z_][a-z0-9_]*)(?:\{((?:[a-z_]+="[^"]*",?)*)\})? (\S+)$/i.exec(each) ?? assert.fail(each);
      const family = types.has(name) ? name : name.replace(/_(?:bucket|sum|count)$/, "");
      assert.ok(types.has(family), `${name} has no type`);
      assert.ok(!Number.isNaN(Number(value)), each);
      assert.ok(!samples.has(`${name}{${labels}}`), `${each} twice`);
      samples.set(`${name}{${labels}}`, Number(value));
    }
  }
  return { types, samples };
}

test("metrics port serves Prometheus text with and without metrics of the app", async (t) => {
  const { url, meter } = await open(t);
  const response = await fetch(url);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const before = parseProm(await response.text());
  assert.ok((before.samples.get("process_memory_usage{}") ?? 0) > 1_000_000);
  meter.createCounter("throughline.images", { unit: "{image}" }).add(3, { kind: "round" });
  meter.createHistogram("rpc.server.call.duration", { unit: "s" }).record(45);
  const { types, samples } = parseProm(await (await fetch(url)).text());
  assert.equal(types.get("throughline_images_total"), "counter");
  assert.equal(samples.get('throughline_images_total{kind="round"}'), 3);
  assert.equal(types.get("rpc_server_call_duration"), "histogram");
  assert.equal(samples.get('rpc_server_call_duration_bucket{le="30"}'), 0, "a slow image has buckets too");
  assert.equal(samples.get('rpc_server_call_duration_bucket{le="60"}'), 1);
  assert.equal(samples.get("rpc_server_call_duration_sum{}"), 45);
});

test("metrics port rejects other paths and methods", async (t) => {
  const { url } = await open(t);
  assert.equal((await fetch(new URL("/", url))).status, 404);
  assert.equal((await fetch(url, { method: "POST", body: "x" })).status, 405);
  const head = await fetch(url, { method: "HEAD" });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
});

test("scrape after telemetry shutdown is answered 503", async (t) => {
  const { url, shutdown } = await open(t);
  await shutdown();
  assert.equal((await fetch(url)).status, 503);
});

test("metrics port beyond loopback needs the authentication of the app", async (t) => {
  await assert.rejects(open(t, {}, "0.0.0.0"), OpenServerError);
});

suite("services with a Prometheus port", { concurrency: 2 }, () => {
  const scraped = /"url":"(http:\/\/127\.0\.0\.1:\d+\/metrics)"/;
  const worker = ["--worker", "local/text-to-image-worker=127.0.0.1:1"];

  test("pipeline serves metrics on a separate port when configured", async (t) => {
    const pipeline = startCommand(t, ["pipeline", "--port", "0", ...worker], {
      THROUGHLINE_PIPELINE_METRICS_PORT: "0",
    });
    const [, url = ""] = await pipeline.waitFor(scraped);
    const [, app = ""] = await pipeline.waitFor(/^\S+ is ready at (\S+)$/m);
    assert.equal((await fetch(url)).status, 200);
    assert.equal((await fetch(`${app}/metrics`)).status, 404, "the app's own port has none");
    pipeline.kill("SIGTERM");
    assert.deepEqual(await pipeline.ended, { code: 0, signal: null });
  });

  test("metrics port in use ends the start and is named", async (t) => {
    const { port } = await listenOnLoopback(t, createServer());
    const { code, stderr } = await runCommand(t, ["pipeline", "--port", "0", ...worker], {
      OTEL_METRICS_EXPORTER: "prometheus",
      OTEL_EXPORTER_PROMETHEUS_PORT: String(port),
    });
    assert.equal(code, 1);
    assert.match(
      stderr,
      new RegExp(`cannot start: 127\\.0\\.0\\.1:${port} is in use\\. .*--metrics-port takes another`),
    );
  });
});
