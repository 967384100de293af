import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";
import { CommandError } from "../../src/cli/command-error.js";
import { runProgram } from "../../src/cli/program.js";

/** Runs the program in this process, as far as it gets without starting anything. */
async function run(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const stdout = new PassThrough({ encoding: "utf8" });
  const stderr = new PassThrough({ encoding: "utf8" });
  const interrupt = new AbortController().signal;
  const result = await runProgram(args, { environment, stdout, stderr, interrupt, supervisor: undefined }).catch(
    (error: unknown) => {
      assert.ok(error instanceof CommandError);
      return { exitCode: error.exitCode, message: error.message };
    },
  );
  return { result, stdout: String(stdout.read() ?? ""), stderr: String(stderr.read() ?? "") };
}

suite("the program", () => {
  test("prints help and version and ends with 0", async () => {
    const help = await run(["--help"]);
    assert.equal(help.result, 0);
    for (const command of ["demo", "dev", "worker", "pipeline", "collector", "generate"]) {
      assert.match(help.stdout, new RegExp(`^ {2}${command} `, "m"));
    }
    const worker = await run(["worker", "--help"]);
    assert.match(
      worker.stdout.replaceAll(/\s+/g, " "),
      /--grace <seconds> Seconds .* \(default: 25; THROUGHLINE_GRACE\)/,
    );
    assert.match((await run(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  test("prints the settings", async () => {
    const { result, stdout } = await run(["settings"]);
    assert.equal(result, 0);
    assert.match(stdout, /^\| Flag \| Variable \|/);
  });

  test("refuses what it does not know with 2", async () => {
    const cases: [string[], RegExp][] = [
      [["paint"], /^throughline: unknown command 'paint'/],
      [["demos"], /^throughline: unknown command 'demos'\n\(Did you mean demo\?\)/],
      [["worker", "--prot", "1"], /^throughline: unknown option '--prot'\n\(Did you mean --port\?\)/],
      [["worker", "extra"], /^throughline: too many arguments/],
      [["worker", "--port"], /^throughline: option '--port <port>' argument missing/],
      [["generate"], /^throughline: missing required argument 'prompt'/],
      [[], /^Usage: throughline/],
    ];
    for (const [args, words] of cases) {
      const { result, stdout, stderr } = await run(args);
      assert.equal(result, 2, args.join(" "));
      assert.match(stderr, words);
      assert.equal(stdout, "");
    }
  });

  test("refuses nonsense with 2, naming the flag or the variable and the value", async () => {
    const cases: [string[], Record<string, string>, string][] = [
      [["worker", "--port", "x"], {}, '--port must be a whole number from 0 to 65535, got "x"'],
      [["worker"], { THROUGHLINE_GRACE: "soon" }, 'THROUGHLINE_GRACE must be a number from 0 to 86400, got "soon"'],
      [
        ["pipeline", "--worker", "somewhere:1"],
        {},
        '--worker must be of the form owner/name=host:port, each app once, got "somewhere:1"',
      ],
      [
        ["pipeline", "--worker", "a/b=nowhere"],
        {},
        '--worker and --default-app do not fit: target "nowhere" of app "a/b" is not a gRPC target such as dns:///host:50052',
      ],
      [
        ["pipeline", "--default-app", "a/b"],
        {},
        '--worker and --default-app do not fit: default app "a/b" is not in the directory, which has local/text-to-image-worker',
      ],
      [["pipeline"], { ENABLE_TRACING: "perhaps" }, 'ENABLE_TRACING is "perhaps", and must be true or false'],
    ];
    for (const [args, environment, message] of cases) {
      assert.deepEqual((await run(args, environment)).result, { exitCode: 2, message });
    }
  });
});
