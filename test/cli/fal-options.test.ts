import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import * as tls from "node:tls";
import { localCertificate } from "../../src/cli/services/local-certificate.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { runInProcess } from "./support/run-in-process.js";

suite("options of fal's API", () => {
  const cases: [string[], RegExp][] = [
    [["--fal"], /^--fal needs --jobs/],
    [["--fal-run-host", "run.example"], /^--fal-run-host needs --fal$/],
    [["--fal-run-host", "https://run.example"], /^--fal-run-host must be a host name/],
    [["--tls-optional"], /^--tls-optional needs --tls-cert and --tls-key/],
    [["--tls-optional", "--host", "0.0.0.0", "--tls-cert", "c", "--tls-key", "k"], /and a --host on loopback$/],
  ];
  for (const [flags, reason] of cases) {
    test(`pipeline ${flags.join(" ")} is rejected with what is missing`, async () => {
      const { code, message } = await runInProcess([
        "pipeline",
        "--worker",
        "a/b=127.0.0.1:1",
        "--port",
        "0",
        ...flags,
      ]);
      assert.equal(code, 2, message);
      assert.match(message, reason);
    });
  }
});

suite("certificate of --tls-self-signed", () => {
  test("it holds for localhost, is kept, and is made anew when it cannot be used", async (t) => {
    const folder = join(await temporaryFolder(), "tls");
    const files = await localCertificate(folder);
    const [cert, key] = [await readFile(files.cert), await readFile(files.key)];
    assert.equal((await stat(files.key)).mode & 0o077, 0, "the key is its owner's only");
    assert.equal(await readFile(join(folder, ".gitignore"), "utf8"), "*\n");

    const server = tls.createServer({ cert, key }, (socket) => void socket.end()).listen(0, "127.0.0.1");
    t.after(() => server.close());
    await once(server, "listening");
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    for (const servername of ["localhost", "queue.localhost"]) {
      const socket = tls.connect({ port: address.port, host: "127.0.0.1", ca: cert, servername });
      await once(socket, "secureConnect");
      socket.destroy();
    }
    const otherName = tls.connect({ port: address.port, host: "127.0.0.1", ca: cert, servername: "example.com" });
    await assert.rejects(once(otherName, "secureConnect"), { code: "ERR_TLS_CERT_ALTNAME_INVALID" });

    await localCertificate(folder);
    assert.deepEqual(await readFile(files.cert), cert);
    await writeFile(files.cert, "no certificate");
    await localCertificate(folder);
    assert.notDeepEqual(await readFile(files.cert), cert);
    await assert.rejects(localCertificate("/dev/null/tls"), /cannot write a certificate into \/dev\/null\/tls/);
  });
});
