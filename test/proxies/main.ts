import { spawnSync } from "node:child_process";
import { describeLimits } from "./limits.js";
import { describePlainNginx } from "./plain-nginx.js";
import { describeProtocols } from "./protocols.js";
import { describeRetries } from "./retries.js";
import { findEnvoy } from "./support/envoy.js";
import { haproxy } from "./support/haproxy.js";
import { nginx } from "./support/nginx.js";
import { startSystem } from "./support/system.js";

/**
 * Clients of all protocols, a real proxy with the configuration of `deploy/proxies/`, and a pipeline with its worker. A proxy that is not
 * installed is skipped, with the reason.
 */
const proxies = [await findEnvoy(), nginx, haproxy];
const curl = spawnSync("curl", ["--version"], { encoding: "utf8" });
const curls = curl.error === undefined && curl.stdout.includes("HTTP2");

const system = await startSystem();
for (const proxy of proxies) {
  const title = `${proxy.name} ${proxy.version ?? ""}`.trim();
  if (proxy.missing !== false) {
    process.stdout.write(`${title}: skipped. ${proxy.missing}\n`);
  }
  describeProtocols(title, proxy, system, curls);
  describeLimits(title, proxy, system);
  describeRetries(title, proxy, system);
}
describePlainNginx(system);
if (!curls) {
  process.stdout.write("curl: skipped. It is not installed, or cannot speak HTTP/2\n");
}
