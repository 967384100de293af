import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { CommandError } from "../../src/cli/command-error.js";
import { visitCommands } from "../../src/cli/commands.js";
import { directoryOf } from "../../src/cli/service/directory-of.js";
import { directorySettings } from "../../src/cli/settings/directory-settings.js";
import { generateSettings } from "../../src/cli/settings/generate-settings.js";
import { pipelineSettings } from "../../src/cli/settings/pipeline-settings.js";
import { readSettings } from "../../src/cli/settings/read-settings.js";
import { workerSettings } from "../../src/cli/settings/worker-settings.js";

const refused = (message: string) => (error: unknown) => {
  assert.ok(error instanceof CommandError);
  assert.equal(error.message, message);
  assert.equal(error.exitCode, 2);
  return true;
};

suite("settings", () => {
  test("a flag beats its variable, a variable beats the default", () => {
    const environment = { THROUGHLINE_WORKER_PORT: "1111" };
    assert.equal(readSettings(workerSettings, {}, {}).port, 50_052);
    assert.equal(readSettings(workerSettings, {}, environment).port, 1111);
    assert.equal(readSettings(workerSettings, { port: "2222" }, environment).port, 2222);
  });

  test("an empty variable counts as absent", () => {
    assert.equal(readSettings(workerSettings, {}, { THROUGHLINE_APP: "" }).app, "local/text-to-image-worker");
    assert.equal(readSettings(workerSettings, {}, { THROUGHLINE_MODEL: "" }).model, undefined);
  });

  test("an empty flag is taken as it is", () => {
    assert.equal(readSettings(generateSettings, { negative: "" }, {}).negative, "");
    assert.throws(() => readSettings(workerSettings, { model: "" }, {}), refused('--model must not be empty, got ""'));
  });

  test("a switch is off, on by its flag, or as its variable says", () => {
    const read = (flags: { "trust-traceparent"?: true }, value?: string) =>
      readSettings(pipelineSettings, flags, { THROUGHLINE_PIPELINE_TRUST_TRACEPARENT: value }).trustTraceparent;
    assert.equal(read({}), false);
    assert.equal(read({ "trust-traceparent": true }), true);
    assert.equal(read({}, "true"), true);
    assert.equal(read({}, "0"), false);
    assert.equal(read({ "trust-traceparent": true }, "false"), true);
  });

  test("nonsense is refused with the flag's or the variable's name and the value", () => {
    const wholePort = "must be a whole number from 0 to 65535";
    for (const value of ["abc", "-1", "65536", "1e3", "0x10", " 80", "80.5", "９"]) {
      assert.throws(
        () => readSettings(workerSettings, { port: value }, {}),
        refused(`--port ${wholePort}, got ${JSON.stringify(value)}`),
      );
      assert.throws(
        () => readSettings(workerSettings, {}, { THROUGHLINE_WORKER_PORT: value }),
        refused(`THROUGHLINE_WORKER_PORT ${wholePort}, got ${JSON.stringify(value)}`),
      );
    }
    const cases: [Parameters<typeof readSettings>[0], string, string, string][] = [
      [workerSettings, "app", "127.0.0.1:50052", "must be an app id of the form owner/name"],
      [workerSettings, "host", "http://localhost", "must be a host name or an address without a port"],
      [workerSettings, "grace", "-1", "must be a number from 0 to 86400"],
      [workerSettings, "log-level", "loud", "must be one of trace, debug, info, warn, error, fatal, silent"],
      [pipelineSettings, "public-url", "ftp://example.com", "must be an http:// or https:// URL"],
      [
        pipelineSettings,
        "cors-origin",
        "http://localhost:1/page",
        "must be * or origins such as http://localhost:5173 or http://localhost:*, without a path",
      ],
      [generateSettings, "seed", "4294967296", "must be a whole number from 0 to 4294967295"],
      [generateSettings, "guidance", "NaN", "must be a number from 0 to 30"],
      [generateSettings, "steps", "0", "must be a whole number from 1 to 150"],
    ];
    for (const [group, flag, value, words] of cases) {
      assert.throws(
        () => readSettings(group, { [flag]: value }, {}),
        refused(`--${flag} ${words}, got ${JSON.stringify(value)}`),
      );
    }
  });

  test("workers are named by a repeated flag or a list", () => {
    const a = "local/a=127.0.0.1:1";
    const b = "local/b=ipv4:10.0.0.1:2,10.0.0.2:3";
    const expected = { "local/a": "127.0.0.1:1", "local/b": "ipv4:10.0.0.1:2,10.0.0.2:3" };
    assert.deepEqual(readSettings(pipelineSettings, { worker: [a, b] }, {}).workers, expected);
    assert.deepEqual(readSettings(pipelineSettings, {}, { THROUGHLINE_WORKERS: `${b},${a}` }).workers, expected);
    const { lookUp } = directoryOf(readSettings(directorySettings, {}, {}), { error() {}, warn() {} });
    assert.equal(lookUp("").appId, "local/text-to-image-worker");
    assert.equal(lookUp("").target, "127.0.0.1:50052");
    for (const value of ["127.0.0.1:50052", "a=127.0.0.1:1", "local/a=", "local/a=x:1,local/a=y:2", ""]) {
      assert.throws(
        () => readSettings(pipelineSettings, { worker: [value] }, {}),
        refused(`--worker must be of the form owner/name=host:port, each app once, got ${JSON.stringify(value)}`),
      );
    }
  });

  test("every default passes its own check, and names are used once in a command", () => {
    visitCommands(({ name, settings }) => {
      readSettings(settings, {}, {});
      const all = Object.values(settings);
      for (const names of [all.map(({ flag }) => flag), all.flatMap(({ variable }) => variable ?? [])]) {
        assert.equal(new Set(names).size, names.length, name);
      }
      for (const setting of all) {
        assert.notEqual(setting.default === undefined, setting.absent === undefined, `${name} --${setting.flag}`);
        assert.match(setting.variable ?? "THROUGHLINE_X", /^THROUGHLINE_[A-Z_]+$/);
      }
    });
  });
});
