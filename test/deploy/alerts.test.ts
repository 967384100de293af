import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import * as z from "zod";
import { readText, readYaml, root } from "./support/manifests.js";

const file = z.object({
  groups: z.array(
    z.object({
      rules: z.array(
        z.object({
          alert: z.string(),
          expr: z.string(),
          for: z.string().optional(),
          labels: z.object({ severity: z.enum(["critical", "warning"]) }),
          annotations: z.object({ summary: z.string(), description: z.string(), runbook: z.string() }),
        }),
      ),
    }),
  ),
});
const rules = file.parse(readYaml("deploy/prometheus/alerts.yaml")).groups.flatMap((group) => group.rules);

/** Metrics of docs/metrics.md with their types, by OpenTelemetry's names. */
function documentedMetrics(): ReadonlyMap<string, string> {
  const [, reference = ""] = /## Metrics reference\n([\s\S]*?)\n## /.exec(readText("docs/metrics.md")) ?? [];
  return new Map(
    [...reference.matchAll(/^\| (`[^|]+) \| ([^|,]+),[^|]* \|/gm)].flatMap(([, names = "", type = ""]) => {
      const [first = "", ...more] = [...names.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name);
      // `nodejs.eventloop.delay.min`, `.max`, …
      const base = first.slice(0, first.lastIndexOf("."));
      return [first, ...more.map((name) => (name.startsWith(".") ? `${base}${name}` : name))].map(
        (name) => [name, type] as const,
      );
    }),
  );
}

/** Names under which Prometheus has a metric. */
function prometheusNames([name, type]: readonly [string, string]): readonly string[] {
  const plain = name.replaceAll(".", "_");
  if (type === "histogram") {
    return ["_bucket", "_count", "_sum"].map((end) => plain + end);
  }
  return type === "counter" ? [`${plain}_total`] : [plain];
}

suite("alert rules", () => {
  const documented = documentedMetrics();
  const known = new Set([...documented].flatMap(prometheusNames));
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(join(root, "src", name), "utf8"))
    .join("\n");

  test("docs/metrics.md lists the metrics that the rules need", () => {
    assert.ok(documented.size > 25, `${documented.size} metrics`);
    assert.ok(rules.length >= 14);
  });

  for (const { alert, expr, annotations } of rules) {
    test(`${alert} reads metrics that exist`, () => {
      const withoutLabels = expr.replaceAll(/\{[^}]*\}|(?:by|on) \([^)]*\)/g, "");
      const names = withoutLabels.match(/\b(?:throughline|rpc|otel|nodejs|process)_\w+/g) ?? [];
      assert.ok(names.length > 0, expr);
      for (const name of names) {
        assert.ok(known.has(name), `${name} is not in docs/metrics.md`);
        const metric = [...documented].find((each) => prometheusNames(each).includes(name))?.[0] ?? "";
        // The event loop's delays are made of a list of their ends.
        const written = metric.startsWith("nodejs.eventloop.delay.") ? "nodejs.eventloop.delay" : metric;
        assert.ok(sources.includes(written), `no source has ${written}`);
      }
    });

    test(`${alert} has a runbook with what it means, where to look and what to do`, () => {
      assert.equal(annotations.runbook, `docs/runbooks.md#${alert.toLowerCase()}`);
      const [, section = ""] =
        new RegExp(`^## ${alert}\\n\\n([\\s\\S]*?)(?=\\n## |$(?![\\s\\S]))`, "m").exec(readText("docs/runbooks.md")) ??
        [];
      for (const part of ["**Means:**", "**Look at:**", "**Do:**"]) {
        assert.ok(section.includes(`- ${part} `), `${alert} has no ${part}`);
      }
    });

    test(`${alert} has a test of its rule`, () => {
      assert.ok(readText("deploy/prometheus/alerts.test.yaml").includes(`alertname: ${alert}\n`));
    });
  }

  test("each runbook is that of an alert", () => {
    const sections = [...readText("docs/runbooks.md").matchAll(/^## (\w+)$/gm)].map(([, name]) => name);
    assert.deepEqual(sections.toSorted(), rules.map(({ alert }) => alert).toSorted());
  });
});
