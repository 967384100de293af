import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";
import { startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

suite("secured service as a process", { concurrency: 2 }, async () => {
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
  const server = await writeCertificate(folder, "server", await authority.issue());
  const expired = await writeCertificate(folder, "expired", await authority.issue({ fromHours: -9, untilHours: -8 }));
  const tls = ["--tls-cert", server.cert, "--tls-key", server.key];

  test("open server beyond loopback starts only with --insecure-open, and logs a warning", async (t) => {
    for (const command of ["pipeline", "collector"]) {
      const args = [command, "--host", "0.0.0.0", "--port", "0"];
      const rejected = await runInProcess(args);
      assert.equal(rejected.code, 1);
      assert.match(
        rejected.message,
        /cannot start: anonymous clients .* 0\.0\.0\.0\. .*--callers.*--tls-client-ca.*--insecure-open/,
      );
      const allowed = startCommand(t, [...args, "--insecure-open"]);
      await allowed.waitFor(/is ready at/);
      assert.match(allowed.stderr, /INSECURE: every client that reaches this machine may call this server/);
      allowed.kill("SIGTERM");
      await allowed.ended;
    }
  });

  test("invalid certificate or contradictory settings end the start with one line", async () => {
    const start = (...flags: string[]) => runInProcess(["pipeline", "--port", "0", ...flags]);
    const cases = [
      [
        ["--tls-cert", expired.cert, "--tls-key", expired.key],
        1,
        /cannot start: the certificate in .*expired\.crt expired on/,
      ],
      [["--tls-cert", server.cert, "--tls-key", expired.key], 1, /expired\.key does not belong to the certificate in/],
      [["--tls-cert", server.cert], 2, /--tls-cert and --tls-key need each other/],
      [["--callers", join(folder, "none")], 1, /none cannot be read \(ENOENT\)/],
    ] as const;
    for (const [flags, code, message] of cases) {
      const ended = await start(...flags);
      assert.equal(ended.code, code, ended.message);
      assert.match(ended.message, message);
      assert.doesNotMatch(ended.message, /\n/);
    }
  });

  test("keys creates a key that admits its caller over TLS, and no other key works", async (t) => {
    const { key, hash } = JSON.parse((await runInProcess(["keys", "--json"])).stdout);
    assert.equal(hash, hashCallerKey(key));
    const shown = await runInProcess(["keys", "--name", "studio"]);
    assert.equal(shown.stdout.match(/tl_[\w-]{43}/g)?.length, 1);
    assert.match(shown.stdout, /- name: "studio"\n {4}keys: \["sha256:[0-9a-f]{64}"\]/);

    const callers = await replaceFile(
      join(folder, "callers.yaml"),
      `callers:\n  - name: studio\n    keys: ["${hash}"]\n    apps: ["*"]\n`,
    );
    // Not the default address, where a developer's own worker may run.
    const worker = ["--worker", "acme/worker=127.0.0.1:1"];
    const pipeline = startCommand(t, ["pipeline", "--port", "0", ...worker, ...tls, "--callers", callers]);
    const [, url = ""] = await pipeline.waitFor(/is ready at (https:\S+)/);
    const keyFile = join(folder, "key");
    const generate = async (text: string) => {
      await writeFile(keyFile, text);
      const flags = ["--server", url, "--tls-ca", ca, "--key-file", keyFile, "--out", join(folder, "x.png"), "--quiet"];
      return (await runInProcess(["generate", "a", ...flags])).message;
    };
    // No worker runs: an accepted caller gets UNAVAILABLE.
    assert.match(await generate(`${key}\n`), /answered UNAVAILABLE/);
    assert.match(await generate("tl_CANARY"), /answered UNAUTHENTICATED/);
    pipeline.kill("SIGTERM");
    await pipeline.ended;
    assert.doesNotMatch(pipeline.stderr + pipeline.stdout, new RegExp(`CANARY|${key}`));
    assert.ok(!(await readFile(callers, "utf8")).includes(key));
  });
});
