import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { visitCommands } from "../../src/cli/commands.js";
import { renderOptionsTable } from "../../src/cli/options/options-table.js";
import { telemetryVariables } from "../../src/trace/telemetry/environment.js";

const settingsPage = new URL("../../docs/settings.md", import.meta.url);

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
    for (const row of renderOptionsTable().trimEnd().split("\n")) {
      assert.equal(row.split(/(?<!\\)\|/).length, 7, row);
    }
  });

  test("settings table in docs/settings.md is generated from the code", () => {
    const [, embedded] =
      /<!-- settings -->\n+([\s\S]*?)\n*<!-- \/settings -->/.exec(readFileSync(settingsPage, "utf8")) ?? [];
    assert.equal(
      embedded,
      renderOptionsTable().trimEnd(),
      "run `npm run throughline -- settings` and put the table in",
    );
  });
});
