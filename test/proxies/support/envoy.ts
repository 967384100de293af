import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runProgram } from "../../interop/support/run-program.js";
import { pythonEnvironment } from "../../support/python-environment.js";
import { steadyPort } from "../../support/steady-port.js";
import { deriveConfig, type ShippedProxy, startProxy } from "./shipped-proxy.js";

const file = "envoy.yaml";

/** Envoy, installed once from PyPI into a virtual environment, or the one that ENVOY names. */
export async function findEnvoy(): Promise<ShippedProxy> {
  const found = await findEnvoyProgram();
  const { stdout } = "path" in found ? await runProgram(found.path, ["--version"]) : { stdout: "" };
  return {
    name: "Envoy",
    file,
    version: /\/(\d+\.\d+\.\d+)\//.exec(stdout.toString())?.[1],
    missing: "missing" in found ? found.missing : false,
    async start({ upstreamPort, folder, changes = [] }) {
      const [port, admin] = [await steadyPort(), await steadyPort()];
      const own = mkdtempSync(join(tmpdir(), "throughline-envoy-"));
      const configFile = join(own, "envoy.yaml");
      writeFileSync(
        configFile,
        deriveConfig(file, [
          ["address: pipeline.internal, port_value: 8080", `address: 127.0.0.1, port_value: ${upstreamPort}`],
          ["address: 0.0.0.0, port_value: 443", `address: 127.0.0.1, port_value: ${port}`],
          ["port_value: 9901", `port_value: ${admin}`],
          ["/etc/throughline", folder],
          ...changes,
        ]),
      );
      const args = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--config-path", configFile];
      // The listener opens after the first health check.
      const stop = await startProxy("path" in found ? found.path : "envoy", args, port);
      return {
        port,
        async hasPassedCheck() {
          const stats = await (await fetch(`http://127.0.0.1:${admin}/stats?filter=health_check.success`)).text();
          return /success: [1-9]/.test(stats);
        },
        async stop() {
          await stop();
          rmSync(own, { recursive: true });
        },
      };
    },
  };
}

async function findEnvoyProgram(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const named = process.env["ENVOY"];
  if (named !== undefined) {
    return { path: named };
  }
  try {
    const python = await pythonEnvironment(fileURLToPath(new URL("../requirements.txt", import.meta.url)));
    // The package's own script names the interpreter of a folder that has been renamed.
    const script = 'import importlib.resources as r; print(r.files("envoy._bin") / "envoy")';
    const { stdout } = await runProgram(python, ["-c", script]);
    return { path: stdout.toString().trim() };
  } catch (error) {
    return { missing: `Envoy cannot be installed from PyPI: ${error instanceof Error ? error.message : error}` };
  }
}
