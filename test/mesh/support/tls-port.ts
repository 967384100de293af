import { join } from "node:path";
import type { TestContext } from "node:test";
import { type Listening, type ListenOptions, listen } from "../../../src/mesh/port/listen.js";
import type { ServerTls } from "../../../src/mesh/port/tls-acceptor.js";
import type { Reloaded } from "../../../src/mesh/tls/reloaded-files.js";
import { reloadTlsMaterial, type TlsFiles, type TlsMaterial } from "../../../src/mesh/tls/tls-material.js";
import { type Authority, type CertificateRequest, replaceFile, writeCertificate } from "../../support/certificates.js";
import { echo } from "./open-port.js";

/** Material that is looked at every 20 ms, until the test ends, and its rejections as they come. */
export function watchMaterial(t: TestContext, files: TlsFiles) {
  const rejected: unknown[] = [];
  const rejections: ((error: unknown) => void)[] = [];
  const material = reloadTlsMaterial(files, {
    intervalMs: 20,
    onRejected(error) {
      rejected.push(error);
      rejections.shift()?.(error);
    },
  });
  // Looking at files keeps no process alive, and a test waits for nothing else.
  const alive = setInterval(() => {}, 60_000);
  t.after(() => {
    clearInterval(alive);
    material.close();
  });
  return {
    material,
    rejected,
    /** Resolves with the next value. */
    change: () => new Promise<TlsMaterial>((resolve) => material.onChange(resolve)),
    /** Resolves with the next rejection. */
    rejection: () => new Promise<unknown>((resolve) => rejections.push(resolve)),
  };
}

/** The files of a server in a folder, with a certificate of an authority. */
export async function serverFiles(folder: string, authority: Authority, request: CertificateRequest = {}) {
  const files = await writeCertificate(folder, "server", await authority.issue(request));
  return { ...files, ca: await replaceFile(join(folder, "ca.crt"), authority.cert) };
}

/** Listens with TLS on a free loopback port until the test ends. */
export async function openTls(
  t: TestContext,
  material: Reloaded<TlsMaterial>,
  options: Partial<ListenOptions> & Pick<ServerTls, "clientCertificate" | "isOptional"> = {},
): Promise<Listening> {
  const { clientCertificate, isOptional, ...rest } = options;
  const listening = await listen({ handler: echo, port: 0, tls: { material, clientCertificate, isOptional }, ...rest });
  t.after(() => listening.stop({ graceMs: 0, cancelMs: 0 }));
  return listening;
}
