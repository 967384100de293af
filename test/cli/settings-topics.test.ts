import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

const page = readFileSync(new URL("../../docs/settings.md", import.meta.url), "utf8");
const [topics = "", all = ""] = page.split("## All settings");

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
