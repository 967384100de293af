import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { BackendsMissingError, findBackends } from "./support/find-backends.js";

/** Runs the checks against real backends: finds or builds these, and shows them to the tests by variables. */
try {
  const { jaeger, otelcol } = await findBackends();
  const tests = [
    "traces.backend.ts",
    "jobs.backend.ts",
    "otlp-json.backend.ts",
    "logs.backend.ts",
    "outage.backend.ts",
  ].map((name) => fileURLToPath(new URL(name, import.meta.url)));
  const child = spawn(process.execPath, [...process.execArgv, "--test", "--test-concurrency=1", ...tests], {
    stdio: "inherit",
    env: { ...process.env, JAEGER: jaeger, OTELCOL: otelcol },
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  const [code] = await once(child, "exit");
  process.exitCode = code === 0 ? 0 : 1;
} catch (error) {
  if (!(error instanceof BackendsMissingError)) {
    throw error;
  }
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
