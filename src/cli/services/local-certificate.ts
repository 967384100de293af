import { X509Certificate } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CliError, messageOf } from "../errors.js";

/** PEM files of a certificate and its key. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/** A certificate that ends sooner is made anew, in milliseconds. */
const renewMs = 30 * 86_400_000;
/**
 * Return a certificate for localhost, made in this folder unless it has one that still holds.
 *
 * It is no authority: who trusts it trusts the server with its key, and nothing else.
 *
 * @throws CliError if the folder cannot be written.
 */
export async function localCertificate(folder: string): Promise<CertificateFiles> {
  const files = { cert: join(folder, "localhost.crt"), key: join(folder, "localhost.key") };
  if (await isUsable(files)) {
    return files;
  }
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    // So that no repository takes the key in.
    await writeFile(join(folder, ".gitignore"), "*\n");
    // Loaded here, because nothing else needs its library.
    const { createSelfSigned } = await import("./self-signed.js");
    const { cert, key } = await createSelfSigned();
    await writeFile(files.key, key, { mode: 0o600 });
    await writeFile(files.cert, cert);
    return files;
  } catch (error) {
    throw new CliError(`cannot write a certificate into ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

async function isUsable({ cert, key }: CertificateFiles): Promise<boolean> {
  try {
    const certificate = new X509Certificate(await readFile(cert));
    await readFile(key);
    return Date.parse(certificate.validTo) - Date.now() > renewMs;
  } catch {
    return false;
  }
}
