import assert from "node:assert/strict";
import { createServer } from "node:https";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { suite, type TestContext, test } from "node:test";
import { localEnvironment } from "../../src/cli/services/local-system.js";
import { observeService } from "../../src/cli/services/serve-app.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority } from "../support/certificates.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { runInProcess } from "./support/run-in-process.js";
import { startCollector } from "./support/start-collector.js";

suite("throughline program", () => {
  test("program prints help and version and exits with 0", async () => {
    const help = await runInProcess(["--help"]);
    assert.equal(help.code, 0);
    for (const command of ["demo", "dev", "worker", "pipeline", "collector", "generate"]) {
      assert.match(help.stdout, new RegExp(`^ {2}${command} `, "m"));
    }
    const worker = await runInProcess(["worker", "--help"]);
    assert.match(
      worker.stdout.replaceAll(/\s+/g, " "),
      /--grace <seconds> Seconds .* \(default: 25; THROUGHLINE_GRACE\)/,
    );
    assert.match((await runInProcess(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  test("program prints the settings", async () => {
    const { code, stdout } = await runInProcess(["settings"]);
    assert.equal(code, 0);
    assert.match(stdout, /^### Reference: /);
    assert.match(stdout, /^\| Flag \| Variable \|/m);
  });

  test("program exits with 2 for unknown commands and options", async () => {
    const cases: [string[], RegExp][] = [
      [["draw"], /^unknown command 'draw'/],
      [["demos"], /^unknown command 'demos'\n\(Did you mean demo\?\)/],
      [["worker", "--prot", "1"], /^unknown option '--prot'\n\(Did you mean --port\?\)/],
      [["worker", "extra"], /^too many arguments/],
      [["worker", "--port"], /^option '--port <port>' argument missing/],
      [
        ["generate"],
        /^the prompt is missing: write what the image should show, or name an image with --settings-from$/,
      ],
      [[], /^Usage: throughline/],
    ];
    for (const [args, words] of cases) {
      const { code, message, stdout, stderr } = await runInProcess(args);
      assert.equal(code, 2, args.join(" "));
      assert.match(message === "" ? stderr : message, words);
      assert.equal(stdout, "");
    }
  });

  test("program exits with 2 for an invalid value and names its flag or variable", async () => {
    const cases: [string[], Record<string, string>, string][] = [
      [["worker", "--port", "x"], {}, '--port must be a whole number from 0 to 65535, got "x"'],
      [
        ["worker"],
        { THROUGHLINE_GRACE: "soon" },
        'THROUGHLINE_GRACE (--grace) must be a number from 0 to 86400, got "soon"',
      ],
      [
        ["pipeline", "--worker", "somewhere:1"],
        {},
        '--worker must be of the form owner/name=host:port, each app once, got "somewhere:1"',
      ],
      [
        ["pipeline", "--worker", "a/b=nowhere"],
        {},
        '--worker and --default-app: target "nowhere" of app "a/b" is not a gRPC target such as dns:///host:50052',
      ],
      [
        ["pipeline", "--worker", "c/d=127.0.0.1:1", "--default-app", "a/b"],
        {},
        '--worker and --default-app: default app "a/b" is not in the directory, which has c/d',
      ],
      [["pipeline"], { ENABLE_TRACING: "perhaps" }, 'ENABLE_TRACING is "perhaps", and must be true or false'],
    ];
    for (const [args, environment, message] of cases) {
      const end = await runInProcess(args, { environment });
      assert.deepEqual([end.code, end.message], [2, message]);
    }
  });

  test("program warns about unknown variables with the nearest name", async () => {
    const { code, stderr } = await runInProcess(["keys"], {
      environment: {
        THROUGHLINE_PIPELINE_PROT: "1",
        THROUGHLINE_SOMETHING_ELSE_ENTIRELY: "1",
        THROUGHLINE_WORKER_PORT: "1",
        THROUGHLINE_PORT: "1",
        THROUGHLINE_STAGE_SPANS: "true",
      },
    });
    assert.equal(code, 0);
    assert.deepEqual(stderr.trimEnd().split("\n"), [
      "throughline: the variable THROUGHLINE_PIPELINE_PROT has no effect: there is no such setting (did you mean THROUGHLINE_PIPELINE_PORT?)",
      "throughline: the variable THROUGHLINE_SOMETHING_ELSE_ENTIRELY has no effect: there is no such setting (docs/settings.md lists them all)",
    ]);
  });

  test("service logs a warning that OTEL_SERVICE_NAME has no effect", () => {
    const stderr = new PassThrough({ encoding: "utf8" });
    const options = { logLevel: "warn", logFormat: "json", metricsPort: undefined } as const;
    observeService("image-pipeline", options, { environment: { OTEL_SERVICE_NAME: "mine" }, stderr });
    assert.match(
      String(stderr.read()),
      /OTEL_SERVICE_NAME has no effect: the service name is always image-pipeline; service\.namespace/,
    );
  });
});

test("services of a local system make spans and use no other collector, whatever the shell sets", () => {
  const shell = {
    PATH: "/bin",
    OTEL_RESOURCE_ATTRIBUTES: "team=a",
    ENABLE_TRACING: "false",
    OTEL_SDK_DISABLED: "true",
    OTEL_TRACES_EXPORTER: "none",
    OTEL_METRICS_EXPORTER: "otlp,prometheus",
    OTEL_TRACES_SAMPLER: "always_off",
    OTEL_EXPORTER_OTLP_ENDPOINT: "https://elsewhere:4317",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://elsewhere:4318/v1/traces",
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_HEADERS: "key=secret",
    OTEL_BSP_MAX_QUEUE_SIZE: "1",
    OTEL_SAMPLE_RATE: "0",
    OTEL_LOGS_EXPORTER: "console",
    OTEL_SERVICE_NAME: "mine",
    OTEL_PROPAGATORS: "b3",
    THROUGHLINE_WORKER_PORT: "1",
  };
  const expected = {
    PATH: "/bin",
    OTEL_RESOURCE_ATTRIBUTES: "team=a",
    ENABLE_TRACING: "true",
    OTEL_METRICS_EXPORTER: "none",
    THROUGHLINE_RUNNING_SPANS: "true",
    OTEL_BSP_SCHEDULE_DELAY: "200",
  };
  assert.deepEqual(localEnvironment(shell), expected);
  assert.deepEqual(localEnvironment({ ...shell, OTEL_BSP_SCHEDULE_DELAY: "50" }), {
    ...expected,
    OTEL_BSP_SCHEDULE_DELAY: "50",
  });
  for (const broken of ["=,x", "x=%zz", "x"]) {
    assert.equal(
      localEnvironment({ ...shell, OTEL_RESOURCE_ATTRIBUTES: broken })["OTEL_RESOURCE_ATTRIBUTES"],
      "",
      broken,
    );
  }
  for (const odd of ["soon", "-1", "1e3", ""]) {
    assert.deepEqual(localEnvironment({ ...shell, OTEL_BSP_SCHEDULE_DELAY: odd }), expected);
  }
});

suite("errors for a pipeline that cannot be called", async () => {
  const out = join(await temporaryFolder(), "heart.png");
  const messageFor = async (server: string): Promise<string> => {
    const { code, message } = await runInProcess(["generate", "a heart", "--server", server, "--out", out]);
    assert.equal(code, 1);
    return message;
  };
  const startWorker = async (t: TestContext): Promise<string> => {
    const handler = createConnectHandler({ routes: ({ service }) => void service(TextToImageWorkerService, {}) });
    const listening = await listen({ handler, port: 0 });
    t.after(() => listening.stop({ graceMs: 0 }));
    return listening.url;
  };

  test("error when nothing listens says how to start a pipeline", async () => {
    assert.match(
      await messageFor("http://127.0.0.1:1"),
      /^cannot reach http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED.* \(start one with `throughline dev`; --server names its URL\)$/,
    );
  });

  test("error for a worker or a collector says that it is not a pipeline", async (t) => {
    for (const url of [await startWorker(t), (await startCollector(t)).url]) {
      assert.match(
        await messageFor(url),
        /answered UNIMPLEMENTED: .* \(that is not a pipeline: --server names its URL\)$/,
      );
    }
  });

  test("error for a server with TLS says to use https", async (t) => {
    const { cert, key } = await (await createAuthority()).issue();
    const { url } = await listenOnLoopback(t, createServer({ cert, key }));
    assert.match(await messageFor(url), /\(if the server has TLS, use https:\/\/ instead of http:\/\/\)$/);
  });

  test("error for a server without TLS says to use http", async (t) => {
    const url = (await startWorker(t)).replace("http:", "https:");
    assert.match(await messageFor(url), /\(the server has no TLS: use http:\/\/ instead of https:\/\/\)$/);
  });
});
