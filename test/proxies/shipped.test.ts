import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { readinessPath } from "../../src/app/lifecycle.js";
import { defaultListenLimits } from "../../src/mesh/port/listen-limits.js";
import { maxImageRequestBytes } from "../../src/request-limits.js";
import { shippedConfig } from "./support/shipped-proxy.js";

const page = readFileSync(new URL("../../deploy/proxies/README.md", import.meta.url), "utf8");
const files = ["envoy.yaml", "nginx.conf", "haproxy.cfg"];

/** Settings that the README's table of a file names. */
function settingsOf(file: string): readonly string[] {
  const escaped = file.replace(".", "\\.");
  const [, table = ""] = new RegExp(`<!-- settings: ${escaped} -->([\\s\\S]*?)<!-- /settings -->`).exec(page) ?? [];
  const cells = [...table.matchAll(/^\| (`.+?`) \| [^|]+ \|$/gm)].map(([, cell = ""]) => cell);
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name.replaceAll("\\|", "|")));
}

/** Lines of a file that set something: no comments, no braces, no keys that only open a block or name a filter. */
function linesOf(file: string): readonly string[] {
  const structure =
    /^$|^#|^}$|^(?:- )?[\w.]+:$|^(?:- )?name: \S+$|^cluster_name: \w+$|^(?:events|http|server) \{$|^(?:global|defaults|frontend \w+|backend \w+)$|^"@type": .*\.(?:HttpProtocolOptions)$/;
  return shippedConfig(file)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => !structure.test(line));
}

for (const file of files) {
  suite(`deploy/proxies/${file}`, () => {
    const settings = settingsOf(file);
    test("every setting that the README explains is set", () => {
      assert.ok(settings.length > 15, `${settings.length} settings`);
      const config = shippedConfig(file);
      assert.deepEqual(
        settings.filter((setting) => !config.includes(setting)),
        [],
      );
    });

    test("every line is explained in the README", () => {
      const unexplained = linesOf(file).filter((line) => !settings.some((setting) => line.includes(setting)));
      assert.deepEqual(unexplained, []);
    });
  });
}

test("settings that the README compares are those of the files", () => {
  const [, table = ""] = /## What differs from the proxies' defaults\n([\s\S]*?)\n## /.exec(page) ?? [];
  const rows = [...table.matchAll(/^\| .+ \|$/gm)].map(([row]) => row.split(/ \| /).slice(2));
  for (const row of rows) {
    for (const [index, file] of files.entries()) {
      for (const [, setting = ""] of (row[index] ?? "").matchAll(/`([^`]+)`/g)) {
        assert.ok(shippedConfig(file).includes(setting) || setting.startsWith("X-Accel"), `${file}: ${setting}`);
      }
    }
  }
});

/** Seconds of a setting, such as `keepalive_timeout 60s`, wherever it stands. */
function secondsOf(file: string, setting: string): readonly number[] {
  const found = [...shippedConfig(file).matchAll(new RegExp(`\\b${setting}:? (\\d+)([smh])`, "g"))];
  assert.ok(found.length > 0, `${file} has no ${setting}`);
  return found.map(([, count, unit]) => Number(count) * { s: 1, m: 60, h: 3_600 }[unit as "s" | "m" | "h"]);
}

test("time-outs of the proxies fit those of a pipeline", () => {
  const idle = [
    ...secondsOf("envoy.yaml", "idle_timeout"),
    ...secondsOf("nginx.conf", "keepalive_timeout"),
    ...secondsOf("haproxy.cfg", "http-keep-alive"),
  ];
  assert.ok(idle.every((seconds) => seconds * 1_000 < defaultListenLimits.keepAliveTimeoutMs));
  assert.equal(secondsOf("haproxy.cfg", "http-request")[0], defaultListenLimits.headersTimeoutMs / 1_000);
  for (const [file, settings] of [
    ["envoy.yaml", ["stream_idle_timeout"]],
    ["nginx.conf", ["grpc_read_timeout", "proxy_read_timeout"]],
    ["haproxy.cfg", ["timeout client", "timeout server"]],
  ] as const) {
    assert.deepEqual(
      settings.flatMap((setting) => secondsOf(file, setting)),
      settings.map(() => 3_600),
      file,
    );
  }
});

test("nginx takes larger bodies than a pipeline, and HAProxy checks its readiness", () => {
  const [, megabytes] = /client_max_body_size (\d+)m;/.exec(shippedConfig("nginx.conf")) ?? [];
  assert.ok(Number(megabytes) * 2 ** 20 > maxImageRequestBytes);
  assert.ok(shippedConfig("haproxy.cfg").includes(`uri ${readinessPath} `));
});
