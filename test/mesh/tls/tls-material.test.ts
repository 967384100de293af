import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { reloadTlsMaterial, type TlsFiles } from "../../../src/mesh/tls/tls-material.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../../support/certificates.js";
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
    ["a certificate without its key", { cert: good.cert }, /belong together/],
    ["no certificate", { ...good, cert: nonsense }, /nonsense holds no PEM certificate/],
    ["a broken certificate", { ...good, cert: broken }, /certificate 1 in .*broken is broken/],
    ["no key", { ...good, key: nonsense }, /nonsense holds no PEM private key without a passphrase/],
    [
      "a key of another certificate",
      { ...good, key: other.key },
      /other\.key does not belong to the certificate in .*server\.crt/,
    ],
    ["an expired certificate", expired, /the certificate in .*expired\.crt expired on .* GMT/],
    ["a certificate that is not yet valid", early, /the certificate in .*early\.crt is not valid before .* GMT/],
    ["no authority", { ca: nonsense }, /nonsense holds no PEM certificate/],
    ["expired authorities", { ca: expired.cert }, /expired\.crt holds no authority's certificate that is valid now/],
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
    assert.match(String(await next), /holds no PEM private key/);
    const changed = change();
    await writeCertificate(own, "server", await authority.issue());
    await changed;
    assert.equal(rejected.length, 2);
  });
});
