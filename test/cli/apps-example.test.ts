import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { reloadAppsFile } from "../../src/mesh/directory/apps-file.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";

const page = readFileSync(new URL("../../docs/deployment.md", import.meta.url), "utf8");

test("documented apps file is valid", async (t) => {
  const example = /<!-- apps-file -->\s*```yaml\n([\s\S]*?)```/.exec(page)?.[1];
  assert.ok(example);
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const { cert, key } = await writeCertificate(folder, "issued", await authority.issue());
  await replaceFile(join(folder, "ca.pem"), authority.cert);
  await replaceFile(join(folder, "pipeline.pem"), readFileSync(cert, "utf8"));
  await replaceFile(join(folder, "pipeline.key"), readFileSync(key, "utf8"));
  await replaceFile(join(folder, "sdxl-key.txt"), "a-key");
  const file = await replaceFile(join(folder, "apps.yaml"), example);
  const directory = reloadAppsFile(file, { onRejected: (error) => assert.fail(String(error)) });
  t.after(directory.close);
  assert.equal(directory.lookUp("").appId, "local/text-to-image-worker");
  const { policies, security } = directory.lookUp("acme/sdxl");
  assert.deepEqual([policies.loadBalancing, policies.retry.maxAttempts], ["least_wait", 3]);
  assert.deepEqual([security?.tls?.ca, security?.tls?.serverName], [join(folder, "ca.pem"), "sdxl.internal"]);
});
