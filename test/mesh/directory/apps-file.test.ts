import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { reloadAppsFile } from "../../../src/mesh/directory/apps-file.js";
import { readPolicies } from "../../../src/mesh/grpc/policies.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../../support/certificates.js";

const good = `
default: local/worker
apps:
  local/worker:
    target: 127.0.0.1:1
    policies: { retry: { maxAttempts: 3 } }
  acme/worker:
    target: dns:///worker.internal:50052
    tls: { ca: ca.crt, cert: pipeline.crt, key: pipeline.key, serverName: worker.internal }
    keyFile: key.txt
`;

suite("apps file", async () => {
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
  const { cert, key } = await writeCertificate(folder, "pipeline", await authority.issue());
  const keyFile = await replaceFile(join(folder, "key.txt"), "a-key\n");
  let files = 0;

  const read = async (t: TestContext, text: string, extension = "yaml") => {
    const path = await replaceFile(join(folder, `${files++}.${extension}`), text);
    const rejected: string[] = [];
    const waiting: (() => void)[] = [];
    const nextNotice = () => new Promise<void>((resolve) => waiting.push(resolve));
    const tell = () => {
      for (const wake of waiting.splice(0)) {
        wake();
      }
    };
    const directory = reloadAppsFile(path, {
      intervalMs: 10,
      onRejected(error) {
        rejected.push(String(error));
        tell();
      },
    });
    directory.onChange(tell);
    t.after(directory.close);
    return { directory, path, rejected, nextNotice };
  };

  test("apps file sets target, policies and relative file paths of each app", async (t) => {
    const { directory } = await read(t, good);
    assert.deepEqual(directory.appIds, ["acme/worker", "local/worker"]);
    assert.deepEqual(directory.lookUp(""), {
      appId: "local/worker",
      target: "127.0.0.1:1",
      policies: readPolicies({ retry: { maxAttempts: 3 } }),
      security: undefined,
    });
    assert.deepEqual(directory.lookUp("acme/worker"), {
      appId: "acme/worker",
      target: "dns:///worker.internal:50052",
      policies: readPolicies(),
      security: { tls: { ca, cert, key, serverName: "worker.internal" }, keyFile },
    });
  });

  test("apps file may be JSON, and a single app is the default", async (t) => {
    const { directory } = await read(
      t,
      JSON.stringify({ apps: { "a/b": { target: "h:1" } } }, undefined, "\t"),
      "json",
    );
    assert.equal(directory.lookUp("").target, "h:1");
  });

  test("apps file has apps without a target, whose workers register themselves", async (t) => {
    const { directory } = await read(t, "default: a/b\napps:\n  a/b:\n  c/d: {policies: {retry: {maxAttempts: 2}}}");
    assert.equal(directory.lookUp("").target, "registry:a/b");
    assert.equal(directory.lookUp("c/d").policies.retry.maxAttempts, 2);
  });

  const wrong: readonly (readonly [string, RegExp])[] = [
    ["apps: {a/b: {target: 'h:1'}", /neither YAML nor JSON: .* line 1/],
    ["apps: {a/b: {target: 'h:1'}, a/b: {target: 'h:2'}}", /neither YAML nor JSON: Map keys must be unique/],
    ["[]", /the file: /],
    ["apps: {}", /at least one app/],
    ["apps: {a/b: {target: 'h:1'}}\nother: 1", /the file: other is unknown/],
    ["apps: {a/b: {target: 5}}", /app "a\/b": target: must be a string/],
    ["apps: {a/b: {target: 'http://h'}}", /target "http:\/\/h" of app "a\/b" is not a gRPC target/],
    ["apps: {b: {target: 'h:1'}}", /app id "b" is not of the form owner\/name/],
    ["apps: {a/b: {target: 'h:1'}}\ndefault: c/d", /default app "c\/d" is not in the directory/],
    ["apps: {a/b: {target: 'h:1', colour: red}}", /app "a\/b": colour is unknown/],
    [
      "apps: {a/b: {target: 'h:1', policies: {retry: {maxAttempts: 6}}}}",
      /app "a\/b": policies\.retry\.maxAttempts: .*5/,
    ],
    ["apps: {a/b: {target: 'h:1', policies: {retries: 1}}}", /app "a\/b": policies: retries is unknown/],
    ["apps: {a/b: {target: 'h:1', tls: {ca: none.crt}}}", /app "a\/b": .*none\.crt cannot be read \(ENOENT\)/],
    ["apps: {a/b: {target: 'h:1', tls: {cert: pipeline.crt}}}", /app "a\/b": .*one of the two files is missing/],
    ["apps: {a/b: {target: 'h:1', keyFile: ca.crt}}", /app "a\/b": .*ca\.crt contains no key/],
  ];
  for (const [text, message] of wrong) {
    test(`apps file is rejected: ${text.replaceAll("\n", " ")}`, async (t) => {
      await assert.rejects(read(t, text), message);
    });
  }

  test("apps file is reloaded when it changes, and the previous one stays in use when the new one is invalid or missing", async (t) => {
    // Looking keeps no process alive.
    const alive = setInterval(() => {}, 60_000);
    t.after(() => clearInterval(alive));
    const { directory, path, rejected, nextNotice } = await read(t, good);
    let change = nextNotice();
    await replaceFile(path, "apps: {local/worker: {target: 'h:0'}}");
    await change;
    assert.match(rejected.join(), /target "h:0" of app "local\/worker"/);
    assert.equal(directory.lookUp("").target, "127.0.0.1:1");

    change = nextNotice();
    await replaceFile(path, "apps: {local/worker: {target: 'h:2'}, c/d: {target: 'h:3'}}");
    await change;
    assert.equal(directory.lookUp("c/d").target, "h:3");
    assert.throws(() => directory.lookUp("acme/worker"), /no such app/);
    assert.throws(() => directory.lookUp(""), /no default app is set/);

    change = nextNotice();
    await rm(path);
    await change;
    assert.match(rejected.at(-1) ?? "", /cannot be read \(ENOENT\)/);
    assert.deepEqual(directory.appIds, ["c/d", "local/worker"]);
    assert.equal(rejected.length, 2);
  });
});
