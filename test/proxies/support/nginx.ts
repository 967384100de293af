import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { steadyPort } from "../../support/steady-port.js";
import { deriveConfig, findProgram, type ShippedProxy, startProxy } from "./shipped-proxy.js";

const file = "nginx.conf";
const [program, version] = findProgram("NGINX", "nginx", /nginx version: nginx\/(.+)/);

/** Settings in place of the build's folders, which only root may write. */
export const temporaryPaths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
  .map((name) => `${name}_temp_path ${name};`)
  .join(" ");

export const nginx: ShippedProxy = {
  name: "nginx",
  file,
  version,
  missing:
    version === undefined
      ? "nginx is not installed: install it (Debian's package is nginx-light), or name it by NGINX=<path>"
      : false,
  async start({ upstreamPort, folder, changes = [] }) {
    const port = await steadyPort();
    const config = deriveConfig(file, [
      ["pipeline.internal:8080", `127.0.0.1:${upstreamPort}`],
      ["listen 443", `listen 127.0.0.1:${port}`],
      ["/etc/throughline", folder],
      ["worker_processes auto;", "worker_processes 1;"],
      ["http {", `http {\n  access_log off;\n  ${temporaryPaths}`],
      ...changes,
    ]);
    return { port, stop: await startNginx(config, port) };
  },
};

/** Starts nginx with a whole configuration, in a folder of its own. */
export async function startNginx(config: string, port: number): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), "throughline-nginx-"));
  // Its workers run as another user, and write bodies there.
  chmodSync(folder, 0o755);
  const configFile = join(folder, "nginx.conf");
  writeFileSync(configFile, config);
  const globals = "daemon off; pid nginx.pid; error_log stderr error;";
  const stop = await startProxy(program, ["-p", folder, "-c", configFile, "-e", "stderr", "-g", globals], port);
  return async () => {
    await stop();
    rmSync(folder, { recursive: true });
  };
}
