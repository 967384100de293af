import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, suite, type TestContext, test } from "node:test";
import { Code, createClient, createContextValues } from "@connectrpc/connect";
import { TextToImageWorkerService } from "../../../src/gen/throughline/v1/worker_pb.js";
import { waitForReady } from "../../../src/mesh/grpc/grpc-call.js";
import type { ServerTls } from "../../../src/mesh/port/tls-acceptor.js";
import { reloadFiles } from "../../../src/mesh/tls/reloaded-files.js";
import { createTlsChannelCredentials } from "../../../src/mesh/tls/tls-channel.js";
import { reloadTlsMaterial, type TlsFiles } from "../../../src/mesh/tls/tls-material.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../../support/certificates.js";
import { transportTo } from "../support/grpc-client.js";
import { serveEcho } from "../support/serve-echo.js";
import { serverFiles, watchMaterial } from "../support/tls-port.js";

suite("TLS files", async () => {
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const good = await serverFiles(folder, authority);
  const other = await writeCertificate(folder, "other", await authority.issue());
  const expired = await writeCertificate(folder, "expired", await authority.issue({ fromHours: -9, untilHours: -8 }));
  const early = await writeCertificate(folder, "early", await authority.issue({ fromHours: 8, untilHours: 9 }));
  const nonsense = await replaceFile(join(folder, "nonsense"), "CANARY");
  const broken = await replaceFile(
    join(folder, "broken"),
    "-----BEGIN CERTIFICATE-----\nQ0FOQVJZ\n-----END CERTIFICATE-----\n",
  );

  test("valid TLS files are read", (t) => {
    const { material } = watchMaterial(t, good);
    assert.match(String(material.current.cert), /BEGIN CERTIFICATE/);
    assert.match(String(material.current.key), /BEGIN PRIVATE KEY/);
    assert.match(String(watchMaterial(t, { ca: good.ca }).material.current.ca), /BEGIN CERTIFICATE/);
  });

  const cases: readonly (readonly [what: string, files: TlsFiles, message: RegExp])[] = [
    ["a missing file", { ...good, cert: join(folder, "none") }, /none cannot be read \(ENOENT\)/],
    ["a certificate without its key", { cert: good.cert }, /one of the two files is missing/],
    ["no certificate", { ...good, cert: nonsense }, /nonsense contains no PEM certificate/],
    ["a broken certificate", { ...good, cert: broken }, /certificate 1 in .*broken is malformed/],
    ["no key", { ...good, key: nonsense }, /nonsense contains no PEM private key, or only one with a passphrase/],
    [
      "a key of another certificate",
      { ...good, key: other.key },
      /other\.key does not belong to the certificate in .*server\.crt/,
    ],
    ["an expired certificate", expired, /the certificate in .*expired\.crt expired on .* GMT/],
    ["a certificate that is not yet valid", early, /the certificate in .*early\.crt is not valid before .* GMT/],
    ["no authority", { ca: nonsense }, /nonsense contains no PEM certificate/],
    [
      "expired authorities",
      { ca: expired.cert },
      /expired\.crt contains no currently valid certificate of an authority/,
    ],
  ];
  for (const [what, files, message] of cases) {
    test(`TLS files: ${what} is rejected by name, and the error quotes nothing from the file`, () => {
      assert.throws(
        () => reloadTlsMaterial(files, { onRejected: () => {} }),
        (error: Error) => {
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /CANARY|Q0FO/);
          return true;
        },
      );
    });
  }

  test("TLS file error is reported once, and so is the next one", async (t) => {
    const own = await temporaryFolder();
    const files = await serverFiles(own, authority);
    const { rejection, change, rejected } = watchMaterial(t, files);
    let next = rejection();
    await rm(files.key);
    assert.match(String(await next), /server\.key cannot be read \(ENOENT\)/);
    next = rejection();
    await replaceFile(files.key, "nonsense");
    assert.match(String(await next), /contains no PEM private key/);
    const changed = change();
    await writeCertificate(own, "server", await authority.issue());
    await changed;
    assert.equal(rejected.length, 2);
  });
});

describe("reloaded files", () => {
  test("half-updated key pair is no error when the other half arrives by the next check", async (t) => {
    const folder = await temporaryFolder();
    const [first, second] = [join(folder, "first"), join(folder, "second")];
    await replaceFile(first, "old");
    await replaceFile(second, "old");
    const rejected: unknown[] = [];
    let halves = 0;
    const pair = reloadFiles({
      files: [first, second],
      make([one, other]) {
        const found = `${one}`;
        if (found !== `${other}`) {
          halves++;
          // What deploys the pair goes on while it is looked at.
          writeFileSync(second, "new");
          throw new Error("half of a pair");
        }
        return found;
      },
      onRejected: (error) => rejected.push(error),
      intervalMs: 10,
    });
    // Looking keeps no process alive.
    const alive = setInterval(() => {}, 60_000);
    t.after(() => {
      clearInterval(alive);
      pair.close();
    });
    const changed = new Promise<string>((resolve) => pair.onChange(resolve));
    await replaceFile(first, "new");
    assert.equal(await changed, "new");
    assert.deepEqual([halves, rejected, pair.current], [1, [], "new"]);
  });
});

suite("TLS channel", async () => {
  const authority = await createAuthority();
  const untrusted = await createAuthority();
  const folder = await temporaryFolder();
  const ca = await replaceFile(join(folder, "authority.crt"), authority.cert);
  const untrustedCa = await replaceFile(join(folder, "untrusted.crt"), untrusted.cert);

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
    const wrongAuthority = clientOf(t, `localhost:${port}`, { ca: untrustedCa });
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
    const wrong = await writeCertificate(own, "client", await untrusted.issue());
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
