import { suite, test } from "node:test";
import { steadyPort } from "../support/steady-port.js";
import { streamStepByStep } from "./support/calls.js";
import type { Server } from "./support/client.js";
import { nginx, startNginx, temporaryPaths } from "./support/nginx.js";
import { clients } from "./support/open-clients.js";
import type { System } from "./support/system.js";

/** nginx as it is without any settings: it speaks HTTP/1.0 to the pipeline, and buffers unless a response forbids it. */
export function describePlainNginx(system: System): void {
  suite("nginx with its defaults", { skip: nginx.missing }, () => {
    for (const name of ["gRPC-Web (fetch)", "Connect with JSON (fetch)"]) {
      test(`progress arrives while the engine waits for it: ${name}`, { timeout: 60_000 }, async (t) => {
        const { folder, ca, upstreamPort } = system;
        const port = await steadyPort();
        const config = `events {}
http {
  access_log off;
  ${temporaryPaths}
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${folder}/edge.crt;
    ssl_certificate_key ${folder}/edge.key;
    location / { proxy_pass https://127.0.0.1:${upstreamPort}; }
  }
}
`;
        t.after(await startNginx(config, port));
        const server: Server = { port, ca, caFile: `${folder}/ca.crt` };
        const client = clients[name]?.(server);
        if (client === undefined) {
          throw new Error(`no client ${name}`);
        }
        t.after(() => client.close());
        await streamStepByStep(client, system.useHeld());
      });
    }
  });
}
