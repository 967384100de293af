import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createOpenAiFront } from "../../../src/fronts/openai/front.js";
import { reloadTlsMaterial } from "../../../src/mesh/tls/tls-material.js";
import type { ManagedEngine } from "../../../src/worker/worker-app.js";
import { openRelay } from "../../mesh/support/relay.js";
import { createAuthority, writeCertificate } from "../../support/certificates.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { createSwitchEngine, startJobMesh } from "../../support/job-mesh.js";
import { createCleanup } from "./cleanup.js";

/** Name in the pipeline's certificate, as the shipped configurations have it. */
const upstreamName = "pipeline.internal";

export type System = Awaited<ReturnType<typeof startSystem>>;

/**
 * A pipeline with TLS and jobs, its worker, and a relay before it that a proxy connects to. The folder holds what the configurations name:
 * the authority of the pipeline's certificate, certificate and key for clients, and another authority (`foreign-ca.crt`).
 *
 * Ends with the test file.
 */
export async function startSystem() {
  const hooks = createCleanup();
  const folder = await mkdtemp(join(tmpdir(), "throughline-proxies-"));
  hooks.after(() => rm(folder, { recursive: true, force: true }));
  const authority = await createAuthority();
  const edge = await writeCertificate(folder, "edge", await authority.issue());
  await writeFile(join(folder, "edge.pem"), `${readFileSync(edge.cert)}\n${readFileSync(edge.key)}`);
  await writeFile(join(folder, "ca.crt"), authority.cert);
  await writeFile(join(folder, "foreign-ca.crt"), (await createAuthority("another")).cert);
  const alternatives = [{ type: "dns", value: upstreamName }] as const;
  const own = await writeCertificate(folder, "pipeline", await authority.issue({ name: upstreamName, alternatives }));
  const material = reloadTlsMaterial(own, { onRejected() {} });
  const { engine, use } = createSwitchEngine();
  await mkdir(join(folder, "jobs"));
  const mesh = await startJobMesh({
    engines: [engine],
    folder: join(folder, "jobs"),
    serve: { tls: { material } },
    pipeline: { fronts: [createOpenAiFront()] },
  });
  hooks.after(async () => {
    await mesh.stop();
    material.close();
  });
  const relay = await openRelay(hooks, Number(new URL(mesh.url).port));
  return {
    folder,
    ca: authority.cert,
    upstreamPort: relay.port,
    /** Breaks the connections between proxy and pipeline. */
    cut: relay.cut,
    /** Has the worker run an engine that stops before its second step until it is released. */
    useHeld() {
      const held = createHeldEngine();
      let onEnd: (end: "finished" | "stopped") => void = () => {};
      const ended = new Promise<"finished" | "stopped">((resolve) => {
        onEnd = resolve;
      });
      const watched: ManagedEngine = {
        ...held.engine,
        async generate(request, options) {
          try {
            const result = await held.engine.generate(request, options);
            onEnd("finished");
            return result;
          } catch (error) {
            onEnd("stopped");
            throw error;
          }
        },
      };
      use(watched);
      return {
        ...held,
        /** How the first generation has ended in the engine. */
        ended,
        generations: () => held.engine.generations,
      };
    },
  };
}
