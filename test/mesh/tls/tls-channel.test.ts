import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { Code, createClient, createContextValues } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { waitForReady } from "../../../src/mesh/grpc/grpc-call.js";
import type { ServerTls } from "../../../src/mesh/port/tls-acceptor.js";
import { createTlsChannelCredentials } from "../../../src/mesh/tls/tls-channel.js";
import type { TlsFiles } from "../../../src/mesh/tls/tls-material.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../../support/certificates.js";
import { transportTo } from "../support/grpc-client.js";
import { serveEcho } from "../support/serve-echo.js";
import { serverFiles, watchMaterial } from "../support/tls-port.js";

suite("TLS channel", async () => {
  const authority = await createAuthority();
  const stranger = await createAuthority();
  const folder = await temporaryFolder();
  const ca = await replaceFile(join(folder, "authority.crt"), authority.cert);
  const strangersCa = await replaceFile(join(folder, "stranger.crt"), stranger.cert);

  const serve = async (t: TestContext, clientCertificate: ServerTls["clientCertificate"]) => {
    const { material } = watchMaterial(t, await serverFiles(await temporaryFolder(), authority));
    return serveEcho(t, { tls: { material, clientCertificate } });
  };
  const clientOf = (t: TestContext, target: string, files: TlsFiles) => {
    const watched = watchMaterial(t, files);
    const credentials = createTlsChannelCredentials(watched.material);
    return { ...watched, worker: createClient(TextToImageWorkerService, transportTo(t, target, { credentials })) };
  };

  test("TLS channel calls a server of its authority", async (t) => {
    const { port } = await serve(t, "none");
    const { worker } = clientOf(t, `localhost:${port}`, { ca });
    assert.equal((await worker.infer({ prompt: "x", options: { seed: 7 } })).seed, 7);
  });

  test("TLS channel sends no call to a server with another authority's certificate or another name", async (t) => {
    const { port } = await serve(t, "none");
    const wrongAuthority = clientOf(t, `localhost:${port}`, { ca: strangersCa });
    await assert.rejects(wrongAuthority.worker.infer({ prompt: "x" }), { code: Code.Unavailable });
    const named = watchMaterial(
      t,
      await serverFiles(await temporaryFolder(), authority, {
        alternatives: [{ type: "dns", value: "other.example" }],
      }),
    );
    const other = await serveEcho(t, { tls: { material: named.material } });
    const wrongName = clientOf(t, `localhost:${other.port}`, { ca });
    await assert.rejects(wrongName.worker.infer({ prompt: "x" }), { code: Code.Unavailable });
  });

  test("TLS channel presents its client certificate, and a changed one on the next connection", async (t) => {
    const own = await temporaryFolder();
    const server = await serve(t, "required");
    const wrong = await writeCertificate(own, "client", await stranger.issue());
    const { worker, change } = clientOf(t, `localhost:${server.port}`, { ca, ...wrong });
    await assert.rejects(worker.infer({ prompt: "x" }), { code: Code.Unavailable });
    const changed = change();
    await writeCertificate(own, "client", await authority.issue());
    await changed;
    // The replica counts as down until a connection is made.
    const contextValues = createContextValues().set(waitForReady, true);
    const { seed } = await worker.infer({ prompt: "x", options: { seed: 7 } }, { contextValues });
    assert.equal(seed, 7);
  });
});
