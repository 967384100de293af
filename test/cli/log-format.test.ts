import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { createLogger } from "../../src/app/observe.js";
import { createLogFormat, type LogFormat } from "../../src/cli/terminal/log-format.js";
import { startCommand } from "./support/run-command.js";

const terminal = Object.assign(new PassThrough(), { isTTY: true, columns: 80 });

/** Formats what a service's logger writes. */
function formatted(format: LogFormat, stderr = new PassThrough(), environment = {}) {
  const formatLine = createLogFormat(format, { stderr, environment });
  const lines: string[] = [];
  const logger = createLogger({
    service: "image-pipeline",
    level: "trace",
    write: (line) => void lines.push(formatLine(line)),
  });
  return { lines, logger, formatLine };
}

suite("log format", () => {
  test("json is what the logger writes, byte for byte", () => {
    const { formatLine } = formatted("json");
    const line = '{"level":"info","time":"2026-11-29T12:00:00.000Z","msg":"x"}';
    assert.equal(formatLine(`${line}\n`), `${line}\n`);
    assert.equal(formatLine(line), `${line}\n`);
  });

  test("pretty is one line with time, level, service, message and fields", () => {
    const { lines, logger } = formatted("pretty");
    logger.info({ method: "a.Service/Call", code: "OK", durationMs: 335.3, ok: true, none: null }, "call answered");
    const [, clock, rest] = /^(\S+) (.*)\n$/.exec(lines[0] ?? "") ?? [];
    assert.match(clock ?? "", /^\d\d:\d\d:\d\d\.\d{3}$/);
    assert.equal(
      rest,
      "INFO  image-pipeline call answered method=a.Service/Call code=OK durationMs=335.3 ok=true none=null",
    );
  });

  test("pretty shows the trace's id without the ids that only programs need, and an error without its stack", () => {
    const { lines, logger } = formatted("pretty");
    const err = new TypeError("no such file: /tmp/a b");
    logger.error({ trace_id: "ab".repeat(16), span_id: "cd".repeat(8), trace_flags: "01", err }, "call failed");
    assert.match(
      lines[0] ?? "",
      /^\S+ ERROR image-pipeline call failed trace_id=(?:ab){16} err="TypeError: no such file: \/tmp\/a b"\n$/,
    );
  });

  test("pretty escapes what could control a terminal, in values, names and messages", () => {
    const { lines, logger, formatLine } = formatted("pretty");
    logger.warn({ reason: "a\u001b[2Jb\nc\u009b\u202e", "x\u001b": 1 }, "two\nlines\u001b");
    assert.match(
      lines[0] ?? "",
      /^\S+ WARN {2}image-pipeline two\\nlines\\u001b reason="a\\u001b\[2Jb\\nc\\u009b\\u202e" x\\u001b=1\n$/,
    );
    assert.equal(formatLine("(node:1) Warning: x\n"), "(node:1) Warning: x\n");
    assert.equal(formatLine("[1]"), "[1]\n");
  });

  test("colors are for terminals, and not with NO_COLOR", () => {
    const line = (stderr: PassThrough, environment: Readonly<Record<string, string>>) => {
      const { lines, logger } = formatted("pretty", stderr, environment);
      logger.error({ code: "INTERNAL" }, "call failed");
      return lines[0] ?? "";
    };
    const colored = line(terminal, {});
    assert.ok(colored.includes("\u001b[31mERROR\u001b[39m"), colored);
    assert.match(stripVTControlCharacters(colored), /^\S+ ERROR image-pipeline call failed code=INTERNAL\n$/);
    for (const plain of [
      line(terminal, { NO_COLOR: "1" }),
      line(new PassThrough(), {}),
      line(terminal, { TERM: "dumb" }),
    ]) {
      assert.equal(stripVTControlCharacters(plain), plain);
    }
  });

  test("a service writes JSON unless --log-format says pretty", async (t) => {
    const started = (args: readonly string[]) =>
      startCommand(t, ["pipeline", "--port", "0", "--worker", "acme/worker=127.0.0.1:1", ...args]);
    const json = started([]);
    await json.waitFor(/^\{"level":"info",.*"msg":"image-pipeline is ready"\}$/m);
    const pretty = started(["--log-format", "pretty"]);
    await pretty.waitFor(
      /^\d\d:\d\d:\d\d\.\d{3} INFO {2}image-pipeline image-pipeline is ready url=http:\/\/127\.0\.0\.1:\d+$/m,
    );
  });
});
