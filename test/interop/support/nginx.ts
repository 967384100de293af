import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ToolMissingError } from "./part.js";

/** A running nginx. */
export interface Nginx {
  /** Its version, such as `nginx/1.22.1`. */
  readonly version: string;
  stop(): Promise<void>;
}

/** The program that NGINX names, or that of the usual place. */
const programs = [process.env["NGINX"], "nginx", "/usr/sbin/nginx"].filter((path) => path !== undefined);

/**
 * Starts nginx in a folder of its own; it accepts connections when this resolves.
 *
 * @param servers what stands in its `http` block.
 * @throws ToolMissingError where there is no nginx.
 */
export async function startNginx(servers: string): Promise<Nginx> {
  const [program, version] = findNginx();
  const folder = mkdtempSync(join(tmpdir(), "throughline-nginx-"));
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${name};`);
  const configFile = join(folder, "nginx.conf");
  writeFileSync(
    configFile,
    `daemon off; worker_processes 1; pid nginx.pid; error_log stderr notice; events { worker_connections 64; }
http { access_log off; ${temporary.join(" ")}\n${servers}\n}\n`,
  );
  const child = spawn(program, ["-p", folder, "-c", configFile, "-e", "stderr"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(child, "exit");
  let output = "";
  await new Promise<void>((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`nginx ended with ${code}: ${output}`)));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk;
      // Written once all sockets are bound.
      if (output.includes("start worker processes")) {
        resolve();
      }
    });
  });
  return {
    version,
    async stop() {
      child.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true });
    },
  };
}

function findNginx(): readonly [program: string, version: string] {
  for (const program of programs) {
    const { error, stderr } = spawnSync(program, ["-v"], { encoding: "utf8" });
    if (error === undefined) {
      return [program, stderr.trim().replace("nginx version: ", "")];
    }
  }
  throw new ToolMissingError(
    "nginx is not installed; install it (Debian's package is nginx-light), or name it by NGINX=<path>",
  );
}
