import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { steadyPort } from "../../support/steady-port.js";
import { deriveConfig, findProgram, type ShippedProxy, startProxy } from "./shipped-proxy.js";

const file = "haproxy.cfg";
const [program, version] = findProgram("HAPROXY", "haproxy", /version (\d+\.\d+\.\d+)/);

export const haproxy: ShippedProxy = {
  name: "HAProxy",
  file,
  version,
  missing:
    version === undefined
      ? "HAProxy is not installed: install it (Debian's package is haproxy), or name it by HAPROXY=<path>"
      : false,
  async start({ upstreamPort, folder, changes = [] }) {
    const port = await steadyPort();
    const own = mkdtempSync(join(tmpdir(), "throughline-haproxy-"));
    const socket = join(own, "stats.sock");
    const configFile = join(own, "haproxy.cfg");
    const config = deriveConfig(file, [
      ["pipeline.internal:8080", `127.0.0.1:${upstreamPort}`],
      ["bind :443", `bind 127.0.0.1:${port}`],
      ["/etc/throughline", folder],
      ["/run/haproxy/throughline.sock", socket],
      ...changes,
    ]);
    writeFileSync(configFile, config);
    const stop = await startProxy(program, ["-db", "-f", configFile], port);
    return {
      port,
      hasPassedCheck: async () => (await column(socket, "check_status")) === "L7OK",
      async stop() {
        await stop();
        rmSync(own, { recursive: true });
      },
    };
  },
};

/** A value of the pipeline's row of `show stat`; undefined before the socket is there, which is later than the port. */
async function column(socket: string, name: string): Promise<string | undefined> {
  const connection = net.connect(socket);
  connection.write("show stat\n");
  const [head = "", ...rows] = (await text(connection).catch(() => "")).split("\n");
  const row = rows.find((each) => each.startsWith("pipeline,pipeline1,"));
  return row?.split(",")[head.replace("# ", "").split(",").indexOf(name)];
}
