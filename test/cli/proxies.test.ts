import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { before, suite, type TestContext, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { createProxyFetch, exemptLoopbackFromProxies } from "../../src/cli/services/proxies.js";
import { createGrpcLogger } from "../../src/mesh/grpc/grpc-log.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority } from "../support/certificates.js";
import { startHttpProxy } from "../support/http-proxy.js";
import { startHub } from "../support/hub-server.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { startOtlpReceiver } from "../support/otlp-receiver.js";
import { steadyPort } from "../support/steady-port.js";
import { runCommand, startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

const portOf = (url: string): number => Number(new URL(url).port);

/** A TLS server in front of a plain-text port. */
async function startTls(t: TestContext, port: number, issued: { readonly cert: string; readonly key: string }) {
  const server = createTlsServer(issued, (socket) => {
    const inner = connect(port, "127.0.0.1");
    inner.pipe(socket).pipe(inner);
    inner.on("error", () => socket.destroy());
    socket.on("error", () => inner.destroy());
  });
  return (await listenOnLoopback(t, server)).port;
}

/** Each line that a service wrote to stderr, which has to be JSON. */
const jsonLines = (stderr: string): { readonly msg: string; readonly level: string; readonly component?: string }[] =>
  stderr
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

suite("proxy variables in the environment", { concurrency: 2 }, async () => {
  const home = await temporaryFolder();
  const model = join(home, "model");
  const repository = join(home, "repository");
  before(async () => {
    await makeSdxlFolder(model);
    await makeSdxlFolder(repository, { dataFile: "model.onnx_data" });
  });

  test("service exports to a collector beyond loopback through the proxy", async (t) => {
    const receiver = await startOtlpReceiver();
    t.after(() => receiver.stop());
    const proxy = await startHttpProxy(t, new Map([["collector.test:4317", portOf(receiver.endpoint)]]));
    const worker = startCommand(t, ["worker", "--port", "0", "--model", model], {
      http_proxy: proxy.url,
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector.test:4317",
      OTEL_METRICS_EXPORTER: "none",
    });
    await worker.waitFor(/is ready at/);
    worker.kill("SIGTERM");
    assert.deepEqual(await worker.ended, { code: 0, signal: null });
    assert.ok(receiver.spans().length > 0, worker.stderr);
    assert.deepEqual([...new Set(proxy.proxied)], ["CONNECT collector.test:4317"]);
    jsonLines(worker.stderr);
  });

  test("grpc-js error of an unreachable proxy is logged once by the service", async (t) => {
    const worker = startCommand(t, ["worker", "--port", "0", "--model", model], {
      http_proxy: `http://127.0.0.1:${await steadyPort()}`,
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector.test:4317",
      OTEL_METRICS_EXPORTER: "none",
      OTEL_BSP_SCHEDULE_DELAY: "50",
    });
    await worker.waitFor(/Failed to connect to proxy/);
    worker.kill("SIGTERM");
    assert.deepEqual(await worker.ended, { code: 0, signal: null });
    const lines = jsonLines(worker.stderr).filter(({ component }) => component === "grpc-js");
    assert.deepEqual(
      lines.map(({ level }) => level),
      ["error"],
    );
    assert.match(lines[0]?.msg ?? "", /^Failed to connect to proxy 127\.0\.0\.1:\d+ with error /);
  });

  test("Hub model is downloaded through HTTPS_PROXY by a tunnel", async (t) => {
    const hub = await startHub({ folder: repository });
    const authority = await createAuthority();
    const issued = await authority.issue({ name: "hub.test", alternatives: [{ type: "dns", value: "hub.test" }] });
    const ca = join(home, "ca.crt");
    await writeFile(ca, authority.cert);
    const proxy = await startHttpProxy(t, new Map([["hub.test:443", await startTls(t, portOf(hub.url), issued)]]));
    const environment = {
      HF_HOME: join(home, "https"),
      HF_ENDPOINT: "https://hub.test",
      HTTPS_PROXY: proxy.url,
      NODE_EXTRA_CA_CERTS: ca,
    };
    const args = ["demo", "--model", "acme/tiny-xl", "--steps", "1", "--out", join(home, "https.png")];
    const { code, stderr } = await runCommand(t, args, environment);
    assert.equal(code, 0, stderr);
    assert.deepEqual([...new Set(proxy.proxied)], ["CONNECT hub.test:443"]);
    assert.equal((await readFile(join(home, "https.png"))).toString("latin1", 1, 4), "PNG");

    const doctor = [
      "doctor",
      "--hub",
      "--model",
      model,
      "--pipeline-port",
      "0",
      "--worker-port",
      "0",
      "--collector-port",
      "0",
    ];
    const { stdout } = await runCommand(t, doctor, environment);
    // The test Hub has no list of models; its 404 came through the proxy.
    assert.match(stdout, /^warning +hub +https:\/\/hub\.test is not reachable: it answers 404$/m);
  });

  test("Hub without TLS is requested through HTTP_PROXY, and a Hub and a collector on loopback directly", async (t) => {
    const hub = await startHub({ folder: repository });
    const receiver = await startOtlpReceiver();
    t.after(() => receiver.stop());
    const proxy = await startHttpProxy(t, new Map([["hub.test:80", portOf(hub.url)]]));
    const fetched = async (name: string, endpoint: string, collector: string) => {
      const before = receiver.spans().length;
      const worker = startCommand(t, ["worker", "--port", "0", "--model", "acme/tiny-xl"], {
        HF_HOME: join(home, name),
        HF_ENDPOINT: endpoint,
        HTTP_PROXY: proxy.url,
        http_proxy: proxy.url,
        OTEL_EXPORTER_OTLP_ENDPOINT: collector,
        OTEL_METRICS_EXPORTER: "none",
      });
      await worker.waitFor(/is ready at/);
      worker.kill("SIGTERM");
      assert.deepEqual(await worker.ended, { code: 0, signal: null });
      assert.ok((await readdir(join(home, name, "hub"))).includes("models--acme--tiny-xl"));
      assert.ok(receiver.spans().length > before, `${collector}: ${worker.stderr}`);
      jsonLines(worker.stderr);
    };
    await fetched("loopback", hub.url, receiver.endpoint);
    assert.deepEqual(proxy.proxied, []);
    await fetched("http", "http://hub.test", `http://localhost:${portOf(receiver.endpoint)}`);
    assert.ok(proxy.proxied.length > 4);
    for (const proxied of proxy.proxied) {
      assert.match(proxied, /^(?:GET|HEAD) http:\/\/hub\.test\//);
    }
  });

  test("download with an invalid proxy names the variable without its value", async () => {
    const { code, message } = await runInProcess(["demo", "--model", "acme/tiny-xl", "--out", join(home, "none.png")], {
      environment: { HTTPS_PROXY: "socks5://me:secret@proxy:1080", HF_HOME: join(home, "none") },
    });
    assert.equal(code, 2);
    assert.equal(message, "HTTPS_PROXY must be the http:// or https:// URL of a proxy");
  });
});

test("loopback is added to the no-proxy list and nothing is removed", () => {
  const added = (environment: Record<string, string>) => {
    exemptLoopbackFromProxies(environment);
    return environment;
  };
  const loopback = "localhost,127.0.0.1,127.0.0.0/8,::1,[::1]";
  assert.deepEqual(added({}), { no_proxy: loopback });
  assert.deepEqual(added({ no_proxy: "a.test, b.test", NO_PROXY: "c.test" }), {
    no_proxy: `a.test,b.test,${loopback}`,
    NO_PROXY: "c.test",
  });
  assert.equal(added({ NO_PROXY: "c.test" })["no_proxy"], `c.test,${loopback}`);
  assert.deepEqual(added({ no_grpc_proxy: "d.test" }), { no_proxy: loopback, no_grpc_proxy: `d.test,${loopback}` });
  const once = added({ no_proxy: "a.test" });
  assert.deepEqual(added({ ...once }), once);
});

test("hosts in NO_PROXY are reached without the proxy", async (t) => {
  const hub = await startHub({ folder: await makeSdxlFolder(join(await temporaryFolder(), "model")) });
  const proxy = await startHttpProxy(t, new Map());
  const ask = async (environment: Record<string, string>, url: string) => {
    const send = await createProxyFetch({ HTTP_PROXY: proxy.url, ...environment });
    assert.ok(send);
    const request = { method: "GET", headers: new Headers(), redirect: "follow", signal: null } as const;
    return (await send(new URL(url), request)).status;
  };
  const local = `http://localhost.localdomain:${portOf(hub.url)}/`;
  assert.equal(await ask({}, local), 502);
  assert.equal(proxy.proxied.length, 1);
  // Any answer or none, but not the proxy's.
  await ask({ NO_PROXY: "localdomain" }, local).catch(() => {});
  assert.equal(await ask({}, `${hub.url}/`), 404);
  assert.equal(proxy.proxied.length, 1);
});

test("repeated grpc-js error is logged after a minute, and a different one at once", () => {
  const lines: string[] = [];
  const log = (level: string) => (_: object, message: string) => void lines.push(`${level} ${message}`);
  let now = 0;
  const logger = createGrpcLogger({ error: log("error"), info: log("info"), debug: log("debug") }, () => now);
  for (const at of [0, 59_999, 60_000]) {
    now = at;
    logger.error("no connection");
    logger.debug("a frame");
  }
  logger.error("no proxy");
  assert.deepEqual(lines, [
    "error no connection",
    "debug a frame",
    "debug a frame",
    "error no connection",
    "debug a frame",
    "error no proxy",
  ]);
});
