import assert from "node:assert/strict";
import { createServer } from "node:net";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { pino } from "pino";
import { pipelineOptions } from "../../src/cli/options/command-options.js";
import { parseOptions } from "../../src/cli/options/option.js";
import { scalerOf } from "../../src/cli/services/scaler.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";
import { createKedaClient } from "../support/keda-client.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { runInProcess } from "./support/run-in-process.js";

const refTo = (app: string) => ({
  name: "workers",
  namespace: "throughline",
  scalerMetadata: { app, targetPerReplica: "1" },
});

/** KEDA's port with settings of the command line. Returns its address. */
async function open(t: TestContext, ...flags: readonly string[]): Promise<string> {
  const lines: string[] = [];
  const logger = pino({}, { write: (line) => void lines.push(line) });
  const settings = parseOptions(pipelineOptions, ["--keda-port", "0", ...flags]);
  const directory = createAppDirectory({
    apps: { "a/one": { target: "localhost:1" }, "a/two": { target: "localhost:1" } },
  });
  const extension = scalerOf(settings, { directory, logger })?.extend(undefined, false);
  assert.ok(extension);
  t.after(() => extension.close?.());
  await extension.start?.();
  const [, address] = /"url":"https?:\/\/([^"]*)","msg":"KEDA can ask/.exec(lines.join("")) ?? [];
  return address ?? assert.fail(lines.join(""));
}

/** Files of an authority, a server, and clients with these common names. */
async function certificates(...names: readonly string[]) {
  const folder = await temporaryFolder();
  const authority = await createAuthority();
  const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
  const server = await writeCertificate(folder, "server", await authority.issue());
  const clients = new Map<string, grpc.ChannelCredentials>();
  const root = Buffer.from(authority.cert);
  for (const name of names) {
    const { key, cert } = await authority.issue({ name });
    clients.set(name, grpc.credentials.createSsl(root, Buffer.from(key), Buffer.from(cert)));
  }
  return {
    folder,
    flags: ["--tls-cert", server.cert, "--tls-key", server.key],
    mutual: ["--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", ca],
    without: grpc.credentials.createSsl(root),
    of: (name: string) => clients.get(name) ?? assert.fail(name),
  };
}

/** Status of IsActive. */
async function ask(t: TestContext, address: string, app: string, credentials?: grpc.ChannelCredentials) {
  const client = createKedaClient(address, credentials);
  t.after(() => client.close());
  return client.isActive(refTo(app)).then(
    () => grpc.status.OK,
    ({ code }: grpc.ServiceError) => code,
  );
}

suite("KEDA's port", () => {
  test("port on loopback needs no credentials, and has no other service", async (t) => {
    const address = await open(t);
    assert.equal(await ask(t, address, "a/one"), grpc.status.OK);
    const other = await fetch(`http://${address}/throughline.v1.ImagePipelineService/ListModels`, { method: "POST" });
    assert.equal(other.status, 404);
  });

  test("port with TLS is reached with the certificate's authority, as by enableTLS and caCert", async (t) => {
    const files = await certificates();
    const address = await open(t, ...files.flags);
    assert.equal(await ask(t, address, "a/one", files.without), grpc.status.OK);
    assert.equal(await ask(t, address, "a/one"), grpc.status.UNAVAILABLE, "cleartext");
  });

  test("port with client certificates takes their holders alone, as by tlsClientCert and tlsClientKey", async (t) => {
    const files = await certificates("keda");
    const address = await open(t, ...files.mutual);
    assert.equal(await ask(t, address, "a/one", files.of("keda")), grpc.status.OK);
    assert.equal(await ask(t, address, "a/one", files.without), grpc.status.UNAVAILABLE);
  });

  test("callers file decides by certificate which apps KEDA may ask for", async (t) => {
    const files = await certificates("keda", "foreign");
    const callers = await replaceFile(
      join(files.folder, "callers.yaml"),
      JSON.stringify({ callers: [{ name: "keda", certificates: ["cn:keda"], apps: ["a/one"] }] }),
    );
    const address = await open(t, ...files.mutual, "--callers", callers);
    assert.equal(await ask(t, address, "a/one", files.of("keda")), grpc.status.OK);
    assert.equal(await ask(t, address, "a/two", files.of("keda")), grpc.status.PERMISSION_DENIED);
    assert.equal(await ask(t, address, "a/one", files.of("foreign")), grpc.status.UNAUTHENTICATED);
    assert.equal(await ask(t, address, "a/one", files.without), grpc.status.UNAUTHENTICATED);
    const opened = await open(t, ...files.flags, "--callers", callers, "--keda-insecure-open");
    assert.equal(await ask(t, opened, "a/one", files.without), grpc.status.OK, "for KEDA without a certificate");
  });

  test("port beyond loopback starts only with authentication or --keda-insecure-open", async (t) => {
    const rejected = { message: /the KEDA endpoint cannot start: anonymous clients could call it at 0\.0\.0\.0/ };
    await assert.rejects(open(t, "--host", "0.0.0.0"), rejected);
    await assert.rejects(open(t, "--host", "0.0.0.0", "--insecure-open", "false"), rejected);
    await open(t, "--host", "0.0.0.0", "--keda-insecure-open");
  });

  test("port in use is named, and --keda-insecure-open alone is bad usage", async (t) => {
    const { port } = await listenOnLoopback(t, createServer());
    const worker = ["--worker", "a/one=127.0.0.1:1", "--port", "0"];
    const inUse = await runInProcess(["pipeline", ...worker, "--keda-port", String(port)]);
    assert.match(inUse.message, new RegExp(`127\\.0\\.0\\.1:${port} is in use\\. .*--keda-port takes another`));
    const alone = await runInProcess(["pipeline", ...worker, "--keda-insecure-open"]);
    assert.deepEqual([alone.code, alone.message], [2, "--keda-insecure-open needs --keda-port"]);
  });
});
