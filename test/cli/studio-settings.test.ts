import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandError } from "../../src/cli/command-error.js";
import { studioOf } from "../../src/cli/service/studio-of.js";
import { readSettings } from "../../src/cli/settings/read-settings.js";
import { studioSettings } from "../../src/cli/settings/studio-settings.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";

const settingsOf = (environment: Record<string, string>) => readSettings(studioSettings, {}, environment);
const parts = {
  directory: createAppDirectory({ apps: { "a/b": { target: "localhost:1" } } }),
  hosts: () => true,
  logger: { warn() {} },
};

test("the studio is off by default", async () => {
  assert.equal(await studioOf(settingsOf({}), parts), undefined);
  assert.ok(await studioOf(settingsOf({ THROUGHLINE_STUDIO: "true" }), parts));
});

test("the URL of a trace holds the id's place after the host, and is http or https", () => {
  for (const value of [
    "http://localhost:16686/trace/{traceId}",
    "https://ui.example/explore?trace={traceId}&x=1",
    "https://ui.example/#/{traceId}",
  ]) {
    assert.equal(settingsOf({ THROUGHLINE_TRACE_URL: value }).traceUrl, value);
  }
  for (const value of [
    "http://localhost/trace",
    "javascript:alert('{traceId}')",
    "http://{traceId}.example/",
    "{traceId}",
  ]) {
    assert.throws(() => settingsOf({ THROUGHLINE_TRACE_URL: value }), /THROUGHLINE_TRACE_URL must be an http:\/\//);
  }
});

test("settings of a studio that is off, or that do not go together, are refused", async () => {
  for (const environment of [
    { THROUGHLINE_STUDIO_COLLECTOR: "http://localhost:4317" },
    { THROUGHLINE_TRACE_URL: "http://localhost/{traceId}" },
    { THROUGHLINE_STUDIO: "true", THROUGHLINE_TRACE_BACKEND: "Jaeger" },
  ]) {
    await assert.rejects(studioOf(settingsOf(environment), parts), CommandError);
  }
});
