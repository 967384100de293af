import assert from "node:assert/strict";
import { test } from "node:test";
import { CliError } from "../../src/cli/errors.js";
import { parseOptions } from "../../src/cli/options/option.js";
import { studioOptions } from "../../src/cli/options/server-options.js";
import { studioOf } from "../../src/cli/services/studio.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { withVariables } from "./support/run-in-process.js";

const valuesOf = (variables: Record<string, string>) => withVariables(variables, () => parseOptions(studioOptions, []));
const parts = {
  directory: createAppDirectory({ apps: { "a/b": { target: "localhost:1" } } }),
  hosts: () => true,
  logger: { warn() {} },
};

test("studio is off by default", async () => {
  assert.equal(await studioOf(valuesOf({}), parts), undefined);
  assert.ok(await studioOf(valuesOf({ THROUGHLINE_STUDIO: "true" }), parts));
});

test("trace URL needs {traceId} after the host and http or https", () => {
  for (const value of [
    "http://localhost:16686/trace/{traceId}",
    "https://ui.example/explore?trace={traceId}&x=1",
    "https://ui.example/#/{traceId}",
  ]) {
    assert.equal(valuesOf({ THROUGHLINE_TRACE_URL: value }).traceUrl, value);
  }
  for (const value of [
    "http://localhost/trace",
    "javascript:alert('{traceId}')",
    "http://{traceId}.example/",
    "{traceId}",
  ]) {
    assert.throws(
      () => valuesOf({ THROUGHLINE_TRACE_URL: value }),
      /THROUGHLINE_TRACE_URL \(--trace-url\) must be an http:\/\//,
    );
  }
});

test("studio options are rejected when the studio is off or when they exclude each other", async () => {
  for (const environment of [
    { THROUGHLINE_STUDIO_COLLECTOR: "http://localhost:4317" },
    { THROUGHLINE_TRACE_URL: "http://localhost/{traceId}" },
    { THROUGHLINE_STUDIO: "true", THROUGHLINE_TRACE_BACKEND: "Jaeger" },
  ]) {
    await assert.rejects(studioOf(valuesOf(environment), parts), CliError);
  }
});
