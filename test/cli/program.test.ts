import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";
import { observeService } from "../../src/cli/services/serve-app.js";
import { runInProcess } from "./support/run-in-process.js";

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
    assert.match(stdout, /^\| Flag \| Variable \|/);
  });

  test("program exits with 2 for unknown commands and options", async () => {
    const cases: [string[], RegExp][] = [
      [["draw"], /^unknown command 'draw'/],
      [["demos"], /^unknown command 'demos'\n\(Did you mean demo\?\)/],
      [["worker", "--prot", "1"], /^unknown option '--prot'\n\(Did you mean --port\?\)/],
      [["worker", "extra"], /^too many arguments/],
      [["worker", "--port"], /^option '--port <port>' argument missing/],
      [["generate"], /^missing required argument 'prompt'/],
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
        ["pipeline", "--default-app", "a/b"],
        {},
        '--worker and --default-app: default app "a/b" is not in the directory, which has local/text-to-image-worker',
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
    observeService("image-pipeline", "warn", { environment: { OTEL_SERVICE_NAME: "mine" }, stderr }, undefined);
    assert.match(
      String(stderr.read()),
      /OTEL_SERVICE_NAME has no effect: the service name is always image-pipeline; service\.namespace/,
    );
  });
});
