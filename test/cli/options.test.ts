import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { visitCommands } from "../../src/cli/commands.js";
import { CliError } from "../../src/cli/errors.js";
import { directoryOptions } from "../../src/cli/options/app-options.js";
import { generateOptions, pipelineOptions, workerOptions } from "../../src/cli/options/command-options.js";
import { type OptionGroup, type OptionValues, parseOptions } from "../../src/cli/options/option.js";
import { renderOptionsTable } from "../../src/cli/options/options-table.js";
import { directoryOf } from "../../src/cli/services/directory.js";
import { telemetryVariables } from "../../src/trace/telemetry/environment.js";
import { withVariables } from "./support/run-in-process.js";

const rejected = (message: string) => (error: unknown) => {
  assert.ok(error instanceof CliError);
  assert.equal(error.message, message);
  assert.equal(error.exitCode, 2);
  return true;
};

/** Reads a group's options from flags by name, and from variables. */
function read<Group extends OptionGroup>(
  group: Group,
  flags: Readonly<Record<string, string | true | readonly string[]>> = {},
  variables: Readonly<Record<string, string>> = {},
): OptionValues<Group> {
  const argv = Object.entries(flags).flatMap(([flag, value]) =>
    value === true ? [`--${flag}`] : [value].flat().map((each) => `--${flag}=${each}`),
  );
  return withVariables(variables, () => parseOptions(group, argv));
}

suite("options", () => {
  test("flag has priority over its variable, and the variable over the default", () => {
    const environment = { THROUGHLINE_WORKER_PORT: "1111" };
    assert.equal(read(workerOptions, {}, {}).port, 50_052);
    assert.equal(read(workerOptions, {}, environment).port, 1111);
    assert.equal(read(workerOptions, { port: "2222" }, environment).port, 2222);
  });

  test("empty variable is unset", () => {
    assert.equal(read(workerOptions, {}, { THROUGHLINE_APP: "" }).app, "local/text-to-image-worker");
    assert.equal(read(workerOptions, {}, { THROUGHLINE_MODEL: "" }).model, undefined);
  });

  test("empty flag is used as given", () => {
    assert.equal(read(generateOptions, { negative: "" }, {}).negative, "");
    assert.throws(() => read(workerOptions, { model: "" }, {}), rejected('--model must not be empty, got ""'));
  });

  test("hosts of webhooks are written as in URLs, and what is no host is rejected", () => {
    const hostsOf = (...hosts: readonly string[]) => read(pipelineOptions, { "webhook-hosts": hosts }).webhookHosts;
    assert.deepEqual(
      hostsOf("Hooks.Example.com.", "hooks.example.com:443", "b\u00fccher.example.:8443", "[2606:2800:21F::1]:9000"),
      ["hooks.example.com", "xn--bcher-kva.example:8443", "[2606:2800:21f::1]:9000"],
    );
    for (const wrong of [
      "*",
      "*.example.com",
      "https://hooks.example.com",
      "hooks.example.com/done",
      "",
      "a,,b",
      "a b",
      ".",
    ]) {
      const text = JSON.stringify(wrong);
      assert.throws(
        () => hostsOf(wrong),
        rejected(
          `--webhook-hosts must be host names or addresses without scheme, path, wildcard or empty entry, such as hooks.example.com or hooks.example.com:8443, got ${text}`,
        ),
        wrong,
      );
    }
    for (const wrong of [
      "me@hooks.example.com",
      "hooks.example.com:0x1",
      "hooks.example.com:65536",
      "a..b",
      "::1",
      "[::1",
    ]) {
      assert.throws(() => hostsOf(wrong), /--webhook-hosts must be host names/, wrong);
    }
  });

  test("switch is off by default, on by its flag, or set by its variable", () => {
    const trusts = (flags: { "trust-traceparent"?: true | string }, value = "") =>
      read(pipelineOptions, flags, { THROUGHLINE_PIPELINE_TRUST_TRACEPARENT: value }).trustTraceparent;
    assert.equal(trusts({}), false);
    assert.equal(trusts({ "trust-traceparent": true }), true);
    assert.equal(trusts({}, "true"), true);
    assert.equal(trusts({}, "0"), false);
    assert.equal(trusts({ "trust-traceparent": true }, "false"), true);
    assert.equal(trusts({ "trust-traceparent": "false" }, "true"), false);
    assert.throws(
      () => trusts({}, "yes"),
      /^CliError: THROUGHLINE_PIPELINE_TRUST_TRACEPARENT \(--trust-traceparent\) must be true or false, got "yes"$/,
    );
  });

  test("invalid value is rejected with its flag or variable and the value", () => {
    const wholePort = "must be a whole number from 0 to 65535";
    for (const value of ["abc", "-1", "65536", "1e3", "0x10", " 80", "80.5", "９"]) {
      assert.throws(
        () => read(workerOptions, { port: value }, {}),
        rejected(`--port ${wholePort}, got ${JSON.stringify(value)}`),
      );
      assert.throws(
        () => read(workerOptions, {}, { THROUGHLINE_WORKER_PORT: value }),
        rejected(`THROUGHLINE_WORKER_PORT (--port) ${wholePort}, got ${JSON.stringify(value)}`),
      );
    }
    const cases: [OptionGroup, string, string, string][] = [
      [workerOptions, "app", "127.0.0.1:50052", "must be an app id of the form owner/name"],
      [workerOptions, "host", "http://localhost", "must be a host name or an address without a port"],
      [workerOptions, "grace", "-1", "must be a number from 0 to 86400"],
      [workerOptions, "log-level", "loud", "must be one of trace, debug, info, warn, error, fatal, silent"],
      [pipelineOptions, "public-url", "ftp://example.com", "must be an http:// or https:// URL"],
      [
        pipelineOptions,
        "cors-origin",
        "http://localhost:1/page",
        "must be * or origins such as http://localhost:5173 or http://localhost:*, without a path",
      ],
      [
        generateOptions,
        "seed",
        "4294967296",
        "must be a whole number from 0 to 4294967295; leave it out for a random one",
      ],
      [generateOptions, "guidance", "NaN", "must be a number from 0 to 30"],
      [generateOptions, "steps", "0", "must be a whole number from 1 to 150"],
    ];
    for (const [group, flag, value, words] of cases) {
      assert.throws(
        () => read(group, { [flag]: value }, {}),
        rejected(`--${flag} ${words}, got ${JSON.stringify(value)}`),
      );
    }
  });

  test("workers are set by a repeated flag or a list", () => {
    const a = "local/a=127.0.0.1:1";
    const b = "local/b=ipv4:10.0.0.1:2,10.0.0.2:3";
    const expected = { "local/a": "127.0.0.1:1", "local/b": "ipv4:10.0.0.1:2,10.0.0.2:3" };
    assert.deepEqual(read(pipelineOptions, { worker: [a, b] }, {}).workers, expected);
    assert.deepEqual(read(pipelineOptions, {}, { THROUGHLINE_WORKERS: `${b},${a}` }).workers, expected);
    const { lookUp } = directoryOf(read(directoryOptions, {}, {}), { error() {}, warn() {} });
    assert.equal(lookUp("").appId, "local/text-to-image-worker");
    assert.equal(lookUp("").target, "127.0.0.1:50052");
    for (const value of ["127.0.0.1:50052", "a=127.0.0.1:1", "local/a=", "local/a=x:1,local/a=y:2", ""]) {
      assert.throws(
        () => read(pipelineOptions, { worker: [value] }, {}),
        rejected(`--worker must be of the form owner/name=host:port, each app once, got ${JSON.stringify(value)}`),
      );
    }
  });

  test("one error names every invalid option", () => {
    assert.throws(
      () => read(generateOptions, { width: "100", height: "4096" }, { THROUGHLINE_TIMEOUT: "never" }),
      rejected(
        '--width must be a whole number from 64 to 2048, a multiple of 8, got "100"\n' +
          '--height must be a whole number from 64 to 2048, a multiple of 8, got "4096"\n' +
          'THROUGHLINE_TIMEOUT (--timeout) must be a number from 0.001 to 86400, got "never"',
      ),
    );
  });

  test("every default passes its own check, and names are unique within a command", () => {
    visitCommands(({ name, options }) => {
      const values = read(options);
      const all = Object.values(options);
      for (const names of [all.map(({ long }) => long), all.flatMap(({ envVar }) => envVar ?? [])]) {
        assert.equal(new Set(names).size, names.length, name);
      }
      for (const option of all) {
        const hasDefault = option.defaultValue !== undefined;
        assert.notEqual(hasDefault, option.defaultValueDescription !== undefined, `${name} ${option.long}`);
        assert.match(option.envVar ?? "THROUGHLINE_X", /^THROUGHLINE_[A-Z0-9_]+$/);
        if (hasDefault && !option.isBoolean()) {
          const flag = { [option.long?.slice(2) ?? ""]: String(option.defaultValue) };
          assert.deepEqual(read(options, flag), values, `${name} ${option.long}`);
        }
      }
    });
  });
});

const page = readFileSync(new URL("../../docs/settings.md", import.meta.url), "utf8");
const [topics = "", all = ""] = page.split("## All settings");

suite("settings table", () => {
  test("settings table has every flag and variable, with shared settings once", () => {
    const table = renderOptionsTable();
    visitCommands(({ options }) => {
      for (const { long, envVar: variable } of Object.values(options)) {
        assert.match(table, new RegExp(`^\\| \`${long}[\` ]`, "m"));
        assert.ok(variable === undefined || table.includes(`\`${variable}\``), variable);
      }
    });
    for (const variable of Object.keys(telemetryVariables)) {
      assert.ok(table.includes(`| \`${variable}\` |`), variable);
    }
    assert.match(
      table,
      /^\| `--host <host>` \| `THROUGHLINE_HOST` \| `127\.0\.0\.1` \| worker, pipeline, collector \|/m,
    );
    assert.equal(table.match(/`--steps <number>`/g)?.length, 1);
  });

  test("settings table is Markdown with the same number of cells in each row", () => {
    const rows = renderOptionsTable()
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("### "));
    assert.ok(rows.length > 100);
    for (const row of rows) {
      assert.equal(row.split(/(?<!\\)\|/).length, 7, row);
    }
  });

  test("settings tables have the topics of docs/settings.md, in their order", () => {
    const headings = (text: string, prefix: string) =>
      text
        .split("\n")
        .filter((line) => line.startsWith(prefix))
        .map((line) => line.slice(prefix.length));
    assert.deepEqual(
      headings(renderOptionsTable(), "### Reference: "),
      headings(topics, "### ").filter((topic) => topic !== "Your own apps"),
    );
  });

  test("settings table in docs/settings.md is generated from the code", () => {
    const [, embedded] = /<!-- settings -->\n+([\s\S]*?)\n*<!-- \/settings -->/.exec(page) ?? [];
    assert.equal(
      embedded,
      renderOptionsTable().trimEnd(),
      "run `npm run throughline -- settings` and put the table in",
    );
  });
});

/** Names of the flags and variables in the cells of a table, such as `--port` and `HF_HOME`. */
const namesIn = (text: string): readonly string[] =>
  [...text.matchAll(/`(--[a-z][a-z-]*|[A-Z][A-Z_]+)[^`]*`/g)].map(([, name = ""]) => name);

/** Flags and variables of each row of the table of all settings. */
const settings = [...all.matchAll(/^\| (.*?) \| (.*?) \|/gm)]
  .map(([, flag = "", variable = ""]) => namesIn(`${flag} ${variable}`))
  .filter((names) => names.length > 0);

suite("topics of docs/settings.md", () => {
  test("topics name each setting of the table, and per-signal variables by the common name", () => {
    const named = new Set(namesIn(topics));
    const ofAllSignals = (name: string) => name.replace(/^(OTEL_EXPORTER_OTLP_)(?:TRACES|METRICS|LOGS)_/, "$1");
    const missing = settings.filter((names) => !names.some((name) => named.has(name) || named.has(ofAllSignals(name))));
    assert.ok(settings.length > 100, `${settings.length} settings`);
    assert.deepEqual(missing, []);
  });

  test("topics name no setting that is missing from the table", () => {
    const known = new Set(settings.flat());
    const byTopic = topics.slice(0, topics.indexOf("### Your own apps"));
    const rows = [...byTopic.matchAll(/^\| [^|]*\| ([^|]*) \|$/gm)].map(([, cell = ""]) => cell);
    assert.deepEqual(
      namesIn(rows.join("\n")).filter((name) => !known.has(name)),
      [],
    );
  });
});
